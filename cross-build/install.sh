#!/bin/sh
# Installs holdfast from this folder on a Linux with systemd and glibc 2.34 or later. May run again: an upgrade.
# sudo ./install.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
fail() { echo "install.sh: $1" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "run it as root: sudo ./install.sh"
if dpkg-query -W holdfast >/dev/null 2>&1; then fail "the package holdfast is installed: apt-get remove holdfast first"; fi
node=$here/usr/lib/holdfast/bin/node
if [ ! -x "$node" ]; then
  node=${HOLDFAST_NODE:-$(command -v node || true)}
  major=$("${node:-false}" -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
  [ "$major" -ge 24 ] || fail "Node.js 24 or later is needed and not found; on 32-bit ARM it cannot be brought along"
fi
"$node" "$here/usr/lib/holdfast/holdfast.js" --version >/dev/null || fail "this build does not run on this machine ($(uname -m))"

# Each file beside its old one, then in its place: what runs meanwhile never sees half of one.
(cd "$here" && find usr -type f) | while read -r file; do
  mkdir -p "/$(dirname "$file")"
  cp "$here/$file" "/$file.new"
  mv -f "/$file.new" "/$file"
done
(cd "$here" && find usr -type f) | sed 's|^|/|' >/usr/lib/holdfast/installed-files

if command -v systemd-sysusers >/dev/null; then
  systemd-sysusers holdfast.conf
elif ! id holdfast >/dev/null 2>&1; then
  useradd --system --home-dir /var/lib/holdfast --shell /usr/sbin/nologin --user-group holdfast
fi
mkdir -p /etc/holdfast
if [ ! -e /etc/holdfast/agent.yaml ]; then
  cp "$here/etc/holdfast/agent.yaml" /etc/holdfast/agent.yaml
  chown root:holdfast /etc/holdfast/agent.yaml
  chmod 0640 /etc/holdfast/agent.yaml
fi
if [ -d /run/systemd/system ]; then
  systemd-tmpfiles --create holdfast.conf || true
  systemctl daemon-reload
  systemctl try-restart holdfast.service
fi
echo "holdfast is installed. Next: edit /etc/holdfast/agent.yaml, then systemctl enable --now holdfast"
