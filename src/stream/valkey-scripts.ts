/**
 * What the server does in one step, in Lua. Each script names all keys that it touches, so that it runs on a cluster
 * where they share a hash tag. Lua's numbers are exact to 2 ** 53, which IDs that a server gives never reach.
 *
 * Bounds: `unpack` carries about 8,000 values, so an entry has at most 1,000 fields (valkey.ts) and IDs go in
 * slices of 1,000.
 */

/** IDs as numbers, and `unpack` in slices. */
export const common = `
local function split(id)
  local ms, n = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(n)
end
local function before(a, b)
  local ams, an = split(a)
  local bms, bn = split(b)
  if ams ~= bms then return ams < bms end
  return an < bn
end
local function sliced(name, key, group, ids)
  local count = 0
  for at = 1, #ids, 1000 do
    local call = {name, key}
    if group then call[3] = group end
    for i = at, math.min(at + 999, #ids) do call[#call + 1] = ids[i] end
    count = count + redis.call(unpack(call))
  end
  return count
end
local function owner(topic, group, id)
  local found = redis.call('XPENDING', topic, group, id, id, 1)
  return found[1] and found[1][2] or nil
end
`;

/**
 * Appends entries, skipping those whose `n` the producer's mark has passed, after making room.
 * KEYS: topic [, mark]. ARGV: entries, maxLength or 0, the mark's life in ms, then for each entry n, count, values.
 */
export const append = `
${common}
local topic, mark = KEYS[1], KEYS[2]
local entries, maxLength, lifeMs = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local last = mark and tonumber(redis.call('GET', mark) or '0') or 0
local function passed()
  local floor
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', topic)) do
    local of = {}
    for i = 1, #info, 2 do of[info[i]] = info[i + 1] end
    local pending = redis.call('XPENDING', topic, of['name'])
    local id = pending[2]
    if pending[1] == 0 then
      local ms, n = split(of['last-delivered-id'])
      id = string.format('%.0f-%.0f', ms, n + 1)
    end
    if floor == nil or before(id, floor) then floor = id end
  end
  return floor
end
if maxLength > 0 and redis.call('EXISTS', topic) == 1 then
  local over = redis.call('XLEN', topic) + entries - maxLength
  if over > 0 then
    local count = math.min(over + math.floor(maxLength / 64), over + 1000)
    local oldest = redis.call('XRANGE', topic, '-', '+', 'COUNT', count + 1)
    local till = oldest[#oldest] and oldest[#oldest][1]
    local floor = passed()
    if floor and till and before(floor, till) then till = floor end
    if till then redis.call('XTRIM', topic, 'MINID', till) end
    if redis.call('XLEN', topic) + entries > maxLength then
      return redis.error_reply('STREAMFULL ' .. topic .. ' holds what some group has not read')
    end
  end
end
local ids, at = {}, 4
for i = 1, entries do
  local n, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  if mark and n <= last then
    ids[i] = false
  else
    ids[i] = redis.call('XADD', topic, '*', unpack(ARGV, at + 2, at + 1 + count))
    last = n
  end
  at = at + 2 + count
end
if mark then redis.call('SET', mark, string.format('%.0f', last), 'PX', lifeMs) end
return ids
`;

/**
 * Makes the group where there is none; a group that is made begins a new incarnation.
 * KEYS: topic, incarnation. ARGV: group, ID it begins behind, a UUID for the case.
 */
export const join = `
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'MKSTREAM')
if made.err then
  if not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
  local known = redis.call('GET', KEYS[2])
  if known then return known end
end
redis.call('SET', KEYS[2], ARGV[3])
return ARGV[3]
`;

/**
 * Sets a group back, which begins a new incarnation; where keys are dealt out, members look at what they have from the
 * start. KEYS: topic, incarnation, members. ARGV: group, ID it begins behind, a UUID.
 */
export const rewind = `
redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[3])
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('HINCRBY', KEYS[3], 'g', 1) end
return 1
`;

/**
 * Takes pending entries over: those of one member (recover), or whatever lay long enough (reclaim).
 * KEYS: topic, retries. ARGV: group, me, idle ms, count, member or '', ID to begin behind or ''.
 * Gives ID, deliveries, failures, fields for each.
 */
export const take = `
local topic, retries = KEYS[1], KEYS[2]
local group, me, idle, count, whose, after = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local found
if whose ~= '' then
  found = redis.call('XPENDING', topic, group, after == '' and '-' or '(' .. after, '+', count, whose)
else
  found = redis.call('XPENDING', topic, group, 'IDLE', idle, '-', '+', count)
end
local out = {}
for _, row in ipairs(found) do
  local claimed = redis.call('XCLAIM', topic, group, me, 0, row[1])
  if claimed[1] and claimed[1][2] then
    out[#out + 1] = {row[1], row[4] + 1, redis.call('HGET', retries, row[1]) or '0', claimed[1][2]}
  else
    redis.call('XACK', topic, group, row[1])
    redis.call('HDEL', retries, row[1])
  end
end
return out
`;

/**
 * Says that entries are being worked on. KEYS: topic [, members]. ARGV: group, me, lease ms, IDs.
 * Gives those that are not mine any more.
 */
export const renew = `
${common}
local topic, group, me = KEYS[1], ARGV[1], ARGV[2]
if KEYS[2] then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if redis.call('HEXISTS', KEYS[2], 'm:' .. me) == 1 then
    redis.call('HSET', KEYS[2], 'm:' .. me, string.format('%.0f', now + ARGV[3]))
  end
end
local lost = {}
for i = 4, #ARGV do
  if owner(topic, group, ARGV[i]) == me then
    redis.call('XCLAIM', topic, group, me, 0, ARGV[i], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
`;

/**
 * Ends or counts entries in one step. KEYS: topic, retries, state, expiries, then every topic that is written to.
 * ARGV: group, me, '1' for all or nothing, now in ms, then five lists, each with its length before it:
 * done (ID) · failed (ID, failures) · moved (ID, key's index, count, values) · reads (key, '' or '1' and value) ·
 * writes (key, '' or '1' and value, expires ms or '0') · emits (key's index, count, values).
 * A state value lies as its end in ms (0: none), a colon, and its bytes.
 */
export const settle = `
${common}
local topic, retries, state, expiries = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, me, isUnit, now = ARGV[1], ARGV[2], ARGV[3] == '1', tonumber(ARGV[4])
local at = 5
local function arg()
  at = at + 1
  return ARGV[at - 1]
end
local function values()
  local count = tonumber(arg())
  at = at + count
  return at - count, at - 1
end
local function stateOf(key)
  local found = redis.call('HGET', state, key)
  if not found then return nil end
  local colon = string.find(found, ':', 1, true)
  local ends = tonumber(string.sub(found, 1, colon - 1))
  if ends > 0 and ends <= now then return nil end
  return string.sub(found, colon + 1)
end
local done, failed, moved, reads, writes, emits = {}, {}, {}, {}, {}, {}
for i = 1, tonumber(arg()) do done[i] = arg() end
for i = 1, tonumber(arg()) do failed[i] = {arg(), arg()} end
for i = 1, tonumber(arg()) do moved[i] = {arg(), tonumber(arg()), values()} end
for i = 1, tonumber(arg()) do reads[i] = {arg(), arg(), arg()} end
for i = 1, tonumber(arg()) do writes[i] = {arg(), arg(), arg(), arg()} end
for i = 1, tonumber(arg()) do emits[i] = {tonumber(arg()), values()} end
local lost = {}
if isUnit then
  for _, id in ipairs(done) do if owner(topic, group, id) ~= me then lost[#lost + 1] = id end end
  for _, row in ipairs(failed) do if owner(topic, group, row[1]) ~= me then lost[#lost + 1] = row[1] end end
  for _, row in ipairs(moved) do if owner(topic, group, row[1]) ~= me then lost[#lost + 1] = row[1] end end
  if #lost > 0 then return {0, lost} end
  for _, row in ipairs(reads) do
    local found = stateOf(row[1])
    if (row[2] == '' and found ~= nil) or (row[2] == '1' and found ~= row[3]) then return {0, lost} end
  end
end
for _, row in ipairs(moved) do
  if redis.call('XACK', topic, group, row[1]) == 1 then
    redis.call('XADD', KEYS[row[2]], '*', unpack(ARGV, row[3], row[4]))
    redis.call('HDEL', retries, row[1])
  else
    lost[#lost + 1] = row[1]
  end
end
for _, row in ipairs(failed) do
  if owner(topic, group, row[1]) == me then redis.call('HSET', retries, row[1], row[2])
  else lost[#lost + 1] = row[1] end
end
for _, row in ipairs(writes) do
  if row[2] == '' then
    redis.call('HDEL', state, row[1])
    redis.call('ZREM', expiries, row[1])
  else
    redis.call('HSET', state, row[1], row[4] .. ':' .. row[3])
    if row[4] == '0' then redis.call('ZREM', expiries, row[1])
    else redis.call('ZADD', expiries, row[4], row[1]) end
  end
end
if isUnit then
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', expiries, '-inf', now, 'LIMIT', 0, 20)) do
    redis.call('HDEL', state, key)
    redis.call('ZREM', expiries, key)
  end
end
for _, row in ipairs(emits) do redis.call('XADD', KEYS[row[1]], '*', unpack(ARGV, row[2], row[3])) end
if #done > 0 then
  sliced('XACK', topic, group, done)
  if redis.call('EXISTS', retries) == 1 then sliced('HDEL', retries, nil, done) end
end
return {1, lost}
`;

/** Moves one entry to another topic. KEYS: from, to. ARGV: ID, values. */
export const move = `
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
return 1
`;

/**
 * Removes members that have nothing pending, have been silent for long, and hold no name.
 * KEYS: topic. ARGV: group, me, silent ms. Whatever is pending for a member that is deleted would be lost, so
 * looking and deleting are one step.
 */
export const prune = `
local count = 0
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local of = {}
  for i = 1, #info, 2 do of[info[i]] = info[i + 1] end
  if of['pending'] == 0 and of['idle'] > tonumber(ARGV[3]) and of['name'] ~= ARGV[2] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], of['name'])
    count = count + 1
  end
end
return count
`;

/** Takes a member's name, or gives whose it is. KEYS: name. ARGV: me, life in ms, an owner known to be dead or ''. */
export const name = `
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] and owner ~= ARGV[3] then return owner end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''
`;

/** Gives a name up, if it is still mine. KEYS: name. ARGV: me. */
export const unname = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
`;
