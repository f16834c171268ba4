/**
 * Stands for the languages of zod: see jest.config.js. English, which zod loads by itself, is not among them.
 */
export {}
