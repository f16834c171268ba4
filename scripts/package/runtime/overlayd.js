#!/usr/bin/env -S node --initial-old-space-size=32
require('./launch.js').launch('overlayd')
