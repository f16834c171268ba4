# `systemctl enable` made links into the package. The networks stay, because containers may use them.
for unit in overlayd-cni.path overlayd-podman.path; do
  rm -f "$root/etc/systemd/system/multi-user.target.wants/$unit"
done
for network in /etc/cni/net.d/30-overlayd.conflist /etc/containers/networks/overlay.json; do
  if [ -z "$root" ] && [ -e "$network" ]; then
    echo "overlayd: $network stays, and nobody changes it any more" >&2
  fi
done
# `overlayctl docker enable` made a link into the package. A file is the administrator's.
drop_in="$root/etc/systemd/system/docker.service.d/40-overlayd.conf"
case $(readlink "$drop_in") in
  /usr/lib/overlayd/* | /lib/overlayd/*)
    rm -f "$drop_in"
    rmdir "${drop_in%/*}" 2>/dev/null || true
    if [ -z "$root" ]; then
      [ ! -d /run/systemd/system ] || systemctl --system daemon-reload >/dev/null || true
      echo 'overlayd: Docker does not follow overlayd any more. When Docker starts again, it makes a bridge of its own, and its' >&2
      echo 'overlayd: containers do not reach other hosts' >&2
    fi
    ;;
  *)
    if [ -z "$root" ] && [ -e "$drop_in" ]; then
      echo "overlayd: $drop_in still exists. Docker starts with the bridge that it had, and" >&2
      echo 'overlayd: its containers do not reach other hosts. Remove the file, then: systemctl daemon-reload' >&2
    fi
    ;;
esac
if [ -z "$root" ]; then
  rm -f /run/docker_opts.env
  left=$(cd /sys/class/net 2>/dev/null && echo flannel.* flannel-v6.* fl-mc.* fl-wg.* | tr ' ' '\n' | grep -v '\*' | tr '\n' ' ' || true)
  if [ -n "$left" ]; then
    echo "overlayd: its devices (${left% }), routes and rules stay in the kernel until the next boot, and traffic goes on. To take" >&2
    echo 'overlayd: them down sooner, install overlayd again, and then: systemctl stop overlayd && overlayctl teardown' >&2
  fi
fi
