#!/bin/sh
# Where flannel has it, with its options.
exec /usr/bin/overlayctl docker-opts "$@"
