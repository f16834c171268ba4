/**
 * The programs under test: those of `npm run build`, unless OVERLAYD_PROGRAMS names the directory of others.
 */
import { join, resolve } from 'node:path'

const DIRECTORY = process.env['OVERLAYD_PROGRAMS'] ?? resolve(__dirname, '../../dist')

/** JavaScript files for node. */
export const OVERLAYD = join(DIRECTORY, 'overlayd.js')
export const OVERLAYCTL = join(DIRECTORY, 'overlayctl.js')
