# The settings may have a password of etcd.
if [ -f "$settings" ] && [ ! -L "$settings" ] && grep -q '^[^#]*_ETCD_PASSWORD=.' "$settings"; then
  case $(stat -c %a "$settings") in
    *[4-7])
      echo 'overlayd: /etc/default/overlayd holds a password and everyone could read it: its mode is 0640 now' >&2
      chmod o= "$settings"
      ;;
  esac
fi
