# Bootstrap shared by scripts/demo, scripts/test and scripts/bench/run: from a fresh checkout to a built tree.
# Sourced, not run. Does nothing and prints nothing if everything is in place. Sets `root` and changes the
# caller's directory to it.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# program:Debian package, of all programs that the lab of network namespaces runs
needed_programs=(etcd:etcd-server etcdctl:etcd-client ip:iproute2 bridge:iproute2 ping:iputils-ping
  unshare:util-linux nsenter:util-linux setpriv:util-linux mount:mount flock:util-linux openssl:openssl
  iptables:iptables nft:nftables)

# programs that make and check the package; scripts/test adds them
package_programs=(dpkg-deb:dpkg rpmbuild:rpm mksquashfs:squashfs-tools lintian:lintian rpmlint:rpmlint strip:binutils)

# programs for loads on the data plane; scripts/bench/run and scripts/test add them
bench_programs=(iperf3:iperf3 sockperf:sockperf ethtool:ethtool)

# programs that make and try the package of the other architecture; scripts/test adds them
other_programs=(aarch64-linux-gnu-strip:binutils-aarch64-linux-gnu x86_64-linux-gnu-strip:binutils-x86-64-linux-gnu
  qemu-aarch64:qemu-user qemu-x86_64:qemu-user)

# programs for tests only; scripts/test adds them. Chromium, which draws the page of overlayctl ui, is the
# largest: 124 MB to fetch, 414 MB on the disk.
test_programs=(/usr/lib/cni/host-local:containernetworking-plugins /usr/lib/podman/netavark:netavark
  /usr/lib/frr/bgpd:frr ps:procps chromium:chromium)

say() { printf '\033[2m%s\033[0m\n' "$*" >&2; }
[ -t 2 ] || say() { printf '%s\n' "$*" >&2; }
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Runs a command, and shows its output only if it fails.
quietly() {
  local log
  log=$(mktemp)
  if "$@" >"$log" 2>&1; then
    rm -f "$log"
  else
    local status=$?
    tail -n 40 "$log" >&2
    rm -f "$log"
    return "$status"
  fi
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
  local -A packages=()
  local pair
  # Administration programs may be outside of a user's PATH.
  PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
  for pair in "${needed_programs[@]}"; do
    command -v "${pair%%:*}" >/dev/null || packages[${pair##*:}]=1
  done
  [ ${#packages[@]} -gt 0 ] || return 0
  local list="${!packages[*]}"
  command -v apt-get >/dev/null ||
    die "these programs are missing, by the names of their Debian packages: $list"
  if [ "$(id -u)" != 0 ] &&
    ! { command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }; then
    die "these packages are missing and $(id -un) may not install them: run apt-get install $list as root"
  fi
  say "installing $list"
  # Another program may be installing: in another tree, or the machine's own upgrades.
  local install=(env DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${!packages[@]}")
  # The package lists may be missing or old: on a failure, update them and try again.
  as_root "${install[@]}" >/dev/null 2>&1 && return
  quietly as_root apt-get update || die 'apt-get update failed'
  quietly as_root "${install[@]}" || die "cannot install $list"
}

check_node() {
  command -v node >/dev/null || die 'node is missing: install Node.js 20.12 or newer'
  node -e 'const [a, b] = process.versions.node.split(".").map(Number)
    process.exit(a > 20 || (a === 20 && b >= 12) ? 0 : 1)' ||
    die "node is $(node --version): Node.js 20.12 or newer is needed"
}

install_modules() {
  # npm writes this file last.
  local done_file=node_modules/.package-lock.json
  [ -e "$done_file" ] && [ ! package-lock.json -nt "$done_file" ] && return
  say 'installing node modules'
  quietly npm ci --no-audit --no-fund || die 'npm ci failed'
  touch "$done_file"
}

# Prints the mirror that this machine gets its Debian packages from; nothing if it is no Debian. mmdebstrap
# has a default mirror.
debian_mirror() {
  apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    sed -n 's/^Debian Debian //p' | head -n 1
}

# Fetches what the packages contain for both architectures, because the sandbox has no network.
fetch_node() {
  quietly npm run --silent package -- --fetch --both ||
    die 'cannot get the node for the package'
}

# Fetches promtool, which checks the alert rules, for the same reason.
fetch_promtool() {
  quietly scripts/monitoring/promtool --fetch || die 'cannot get promtool for the tests'
}

build() {
  local sources=(src tsconfig.json tsconfig.build.json package-lock.json)
  [ -e dist/overlayd.js ] && [ -e dist/overlayctl.js ] &&
    [ -z "$(find "${sources[@]}" -newer dist/overlayd.js -print -quit)" ] && return
  say 'building'
  quietly npm run build || die 'the build failed'
}

# Installs and runs each step under a lock on the tree, so that two runs do not install at the same time.
bootstrap() {
  local step
  exec 9<"$root"
  flock 9
  # Without the lock's file, which a service that a package starts would keep open.
  install_packages 9<&-
  check_node
  for step in "$@"; do "$step"; done
  exec 9<&-
}
