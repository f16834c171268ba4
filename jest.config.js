/**
 * `unit` needs nothing; `integration` needs the sandbox (`scripts/sandbox`), a kernel and an etcd; `interop`
 * a flanneld too (`scripts/interop`); `guest` needs the kernel of a guest (`scripts/guest/run`); `e2e` needs
 * root and a machine that can boot hosts (`scripts/hosts/sandbox`). `npm test` gives each core a worker; all
 * others share one network, and run one file at a time.
 */
const common = {
  testEnvironment: '<rootDir>/test/support/jest-environment.ts',
  // zod's error messages in 50 languages, which nothing here uses: each test file would load 50 more modules.
  moduleNameMapper: { '^\\.\\./locales/index\\.cjs$': '<rootDir>/test/support/no-locales.ts' },
  globalSetup: '<rootDir>/test/support/jest-start.ts',
  setupFilesAfterEnv: ['<rootDir>/test/support/jest-timeout.ts'],
  // A test file's context answers each look-up of a global name in 200 ns. No test replaces these names.
  sandboxInjectedGlobals: ['Array', 'BigInt', 'Error', 'JSON', 'Map', 'Math', 'Number', 'Object', 'String'],
  transform: {
    '^.+\\.ts$': ['@swc/jest', { jsc: { target: 'es2022', parser: { syntax: 'typescript' } } }],
  },
}

module.exports = {
  projects: [
    { ...common, displayName: 'unit', testMatch: ['<rootDir>/test/unit/**/*.test.ts'] },
    {
      ...common,
      displayName: 'integration',
      testMatch: ['<rootDir>/test/integration/**/*.test.ts'],
      runner: '<rootDir>/test/support/queue-runner.ts',
    },
    { ...common, displayName: 'interop', testMatch: ['<rootDir>/test/interop/**/*.test.ts'] },
    { ...common, displayName: 'guest', testMatch: ['<rootDir>/test/guest/**/*.test.ts'] },
    { ...common, displayName: 'e2e', testMatch: ['<rootDir>/test/e2e/**/*.test.ts'] },
  ],
}
