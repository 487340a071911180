#!/bin/sh
# Takes away what install.sh brought. Configuration and journal stay, unless: sudo ./uninstall.sh --purge
set -eu
[ "$(id -u)" = 0 ] || { echo "uninstall.sh: run it as root" >&2; exit 1; }
list=/usr/lib/holdfast/installed-files
if [ -d /run/systemd/system ]; then systemctl disable --now holdfast.service 2>/dev/null || true; fi
if [ -e "$list" ]; then
  while read -r file; do rm -f "$file"; done <"$list"
  rm -f "$list"
fi
for folder in /usr/lib/holdfast /usr/share/holdfast /usr/share/doc/holdfast; do
  if [ -d "$folder" ]; then find "$folder" -depth -type d -exec rmdir {} \; 2>/dev/null || true; fi
done
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
if [ "${1:-}" = --purge ]; then
  rm -rf /var/lib/holdfast /etc/holdfast
  echo "holdfast, its configuration and its journal are gone."
else
  echo "holdfast is gone. /etc/holdfast and /var/lib/holdfast stay; --purge takes them too."
fi
