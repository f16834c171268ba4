/** Runs once before all tests, so that all test processes share one measurement. */
import { measurePatience } from '../lab/patience'

export default measurePatience
