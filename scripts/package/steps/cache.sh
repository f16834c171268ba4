# V8's cache is for this node and this processor. Without the cache the programs only start slower.
library="$root/usr/lib/overlayd"
"$library/node" "$library/make-cache.js" >/dev/null 2>&1 || true
