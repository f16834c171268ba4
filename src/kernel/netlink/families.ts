/** The kernel's numbers of address families (linux/socket.h). */
import type { Family, IpAddress } from '../../model/address'
import { AF_INET, AF_INET6 } from './constants'

export const familyNumber = (family: Family): number => (family === 'IPv4' ? AF_INET : AF_INET6)

export const familyNumberOf = (address: IpAddress): number =>
  typeof address === 'number' ? AF_INET : AF_INET6
