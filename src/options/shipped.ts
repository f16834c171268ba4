import { join } from 'node:path'

/** Path of a file that comes with the programs for systemd, such as `docker.service.d/40-overlayd.conf`. */
export const shippedFile = (name: string): string => join(__dirname, '..', '..', 'scripts', 'systemd', name)
