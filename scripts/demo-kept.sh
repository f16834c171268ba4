# Finds the demo that `scripts/demo --keep` left, and works on it. Sourced after lib.sh, not run.
#
# A kept demo is known by a file that only its user can write, in the runtime directory of the user's session
# or, if there is none, in /tmp. The file's name stands for the checkout and the process namespace. The file
# holds the id of this boot, the kind of the demo, and two processes by id and start time: the sandbox, and
# the script that waits for it. If any of that is no longer true, there is no kept demo.

kept_sandbox= # the process of scripts/sandbox, through whose namespaces the demo is entered
kept_sandbox_start=
kept_waiter= # the process that cleans up afterwards; the sandbox itself if nothing needs to be cleaned up
kept_waiter_start=
kept_kind= # namespaces or vms

boot_id() { cat /proc/sys/kernel/random/boot_id; }

# Prints the places where the file may be, preferred one first. A session without XDG_RUNTIME_DIR (su, cron)
# finds the file of one that has it.
state_places() {
  local place
  for place in "${XDG_RUNTIME_DIR-}" "/run/user/$EUID"; do
    [[ $place == /* && $(stat -c '%u %a %F' "$place" 2>/dev/null) == "$EUID 700 directory" ]] &&
      printf '%s\n' "$place/overlayd-demo"
  done
  printf '%s\n' "/tmp/overlayd-demo-$EUID"
}

# Whether it is a directory, not a link to one, that belongs to this user and is closed to all others.
is_ours() { [[ $(stat -c '%u %a %F' "$1" 2>/dev/null) == "$EUID 700 directory" ]]; }

state_name() {
  local hash
  hash=$(printf '%s\n' "$root" "$(readlink /proc/self/ns/pid)" | sha256sum)
  printf '%s' "${hash:0:16}"
}

# Prints when a process started, in ticks since boot. Fails if it has ended, even if it is still a zombie.
start_of() {
  local stat fields
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  # IFS is set because a trap may interrupt a read with another IFS.
  IFS=" " read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != [ZX] ]] || return 1
  printf '%s' "${fields[19]}"
}

is_running() { [[ -n $1 && $(start_of "$1") == "$2" ]]; }

# Sets the variables above from the file of the kept demo; fails if there is none. Removes files of demos that
# have ended.
find_kept() {
  local place file boot processes
  while IFS= read -r place; do
    file=$place/$(state_name)
    is_ours "$place" && [ -f "$file" ] && [ ! -L "$file" ] || continue
    read -r boot kept_kind kept_sandbox kept_sandbox_start kept_waiter kept_waiter_start <"$file" || :
    processes="$kept_sandbox $kept_sandbox_start $kept_waiter $kept_waiter_start"
    if [[ $boot == "$(boot_id)" && $kept_kind =~ ^(namespaces|vms)$ ]] &&
      [[ $processes =~ ^[0-9]+\ [0-9]+\ [0-9]+\ [0-9]+$ ]] &&
      is_running "$kept_sandbox" "$kept_sandbox_start"; then
      return 0
    fi
    rm -f "$file"
  done < <(state_places)
  return 1
}

need_kept() {
  find_kept || die "no demo of this checkout ($root) is kept by $(id -un): ./scripts/demo --keep starts one"
}

# Prints the directory for the file, and makes it if it is missing.
state_directory() {
  local place
  place=$(state_places | head -n 1)
  mkdir -m 700 "$place" 2>/dev/null || :
  is_ours "$place" || die "$place is not a directory of $(id -un) alone (mode 0700): remove it, and try again"
  printf '%s' "$place"
}

# Writes the file: remember KIND SANDBOX WAITER
remember() {
  local directory unfinished
  directory=$(state_directory)
  unfinished=$(mktemp "$directory/.unfinished.XXXXXX")
  printf '%s %s %s %s %s %s\n' \
    "$(boot_id)" "$1" "$2" "$(start_of "$2")" "$3" "$(start_of "$3")" >"$unfinished"
  mv "$unfinished" "$directory/$(state_name)"
}

# Runs a command in the sandbox of the kept demo: in its process, mount and network namespaces, with the
# matching /proc.
in_sandbox() {
  local enter=(
    nsenter --no-fork --target "$kept_sandbox" --mount --net "--pid=/proc/$kept_sandbox/ns/pid_for_children"
  )
  # A user other than root has made them within a user namespace.
  [ "$EUID" = 0 ] || enter+=(--user --preserve-credentials)
  # Only children of this shell are in the process namespace, so the shell waits. It ignores the Ctrl-C that
  # ends the command.
  "${enter[@]}" bash -c 'trap : INT; "$@"; exit $?' enter "$@"
}

# Sends a request to the process of the demo, and prints its answer: ask VERB [ARGUMENT ...]
ask() {
  in_sandbox env --chdir="$root" TMPDIR=/run/tmp node_modules/.bin/tsx scripts/demo-client.ts "$@"
}

# Runs a command, or a shell, on a host or in a container of the kept demo: enter_kept NAME [COMMAND ...]
enter_kept() {
  local name=$1 kind command=()
  shift
  kind=$([ $# -gt 0 ] && echo command || echo shell)
  mapfile -d '' -t command < <(ask "$kind" "$name" "$PWD" "${TERM:-dumb}")
  # Without words the client has printed the reason.
  [ ${#command[@]} -gt 0 ] || return 1
  in_sandbox "${command[@]}" "$@"
}

# Ends the kept demo and waits until everything of it is gone.
stop_kept() {
  local process processes start first= first_start= try place
  # Process 1 of the sandbox ends only after all processes of the sandbox have ended.
  read -r first _ <"/proc/$kept_sandbox/task/$kept_sandbox/children" 2>/dev/null || :
  [ -z "$first" ] || first_start=$(start_of "$first") || first=
  is_running "$kept_sandbox" "$kept_sandbox_start" && kill -KILL "$kept_sandbox" 2>/dev/null || :
  for try in {1..600}; do
    if ! is_running "$first" "$first_start" && ! is_running "$kept_sandbox" "$kept_sandbox_start" &&
      ! is_running "$kept_waiter" "$kept_waiter_start"; then
      # The file is invalid now, and find_kept removes it.
      find_kept || state_places | while IFS= read -r place; do
        is_ours "$place" && rmdir "$place" 2>/dev/null || :
      done
      return 0
    fi
    sleep 0.05
  done
  processes=("$first $first_start" "$kept_sandbox $kept_sandbox_start" "$kept_waiter $kept_waiter_start")
  for process in "${processes[@]}"; do
    read -r process start <<<"$process"
    ! is_running "$process" "$start" ||
      die "process $process of the demo has not ended after 30 s: see ps -fp $process"
  done
}
