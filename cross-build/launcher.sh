#!/bin/sh
# Starts holdfast with the Node that came with it, or with the user's where none could (32-bit ARM).
# HOLDFAST_NODE names another Node, HOLDFAST_NODE_FLAGS other limits of V8.
lib=/usr/lib/holdfast
node=${HOLDFAST_NODE:-$lib/bin/node}
[ -x "$node" ] || node=node
# Half the memory under load and the same speed; DEP0169: a package in the bundle still calls url.parse().
flags=${HOLDFAST_NODE_FLAGS:---max-semi-space-size=4 --max-old-space-size=128}
# shellcheck disable=SC2086 # several words
exec "$node" $flags --disable-warning=DEP0169 "$lib/holdfast.js" "$@"
