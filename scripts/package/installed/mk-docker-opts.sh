#!/bin/sh
# The name and the options of the script that comes with flannel.
exec /usr/bin/overlayctl docker-opts "$@"
