# What scripts have in common that start a server for tests; they read this as their first step.
# Sets `as`, what a server's command begins with: none runs as root, which it would refuse. `user` is who it runs as then.

as=()
if [ "$(id -u)" -eq 0 ]; then
  user=postgres
  id "$user" >/dev/null 2>&1 || user=nobody
  as=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups env HOME=/)
fi

# Sets `port` to one that may be free: below those that the system gives to connections, so that it is free again once its
# server has stopped. Whoever finds it taken asks for another one.
any_port() {
  port=$((20000 + RANDOM % 12000))
}
