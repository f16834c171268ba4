/** Runs before each test file: sets the default timeout of tests. */
import { patient } from '../lab/patience'

jest.setTimeout(patient(5000))
