/**
 * What the server does in one step, in Lua. Each script names all keys that it touches, so that it runs on a cluster
 * where they share a hash tag. Lua's numbers are exact to 2 ** 53, which IDs that a server gives never reach.
 *
 * A server that is out of memory refuses a script's first write, unless that takes no memory: after it nothing is refused,
 * since a script must not end amid its work. So what workers need to go on (and to free memory) begins with such a
 * write, marked `-- even without memory`.
 *
 * Bounds: `unpack` carries about 8,000 values, so an entry that a script writes has at most `valuesMax` of them, and IDs
 * go in slices of 1,000.
 */

/** Names and values of one entry that a script can write. */
export const valuesMax = 7_000;

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
if maxLength > 0 and redis.call('EXISTS', topic) == 1 and redis.call('XLEN', topic) + entries > maxLength then
  local floor, turns = passed(), 0
  local over = redis.call('XLEN', topic) + entries - maxLength
  local count = over + math.min(math.floor(maxLength / 64), 1000)
  while over > 0 and turns < 20 do
    local oldest = redis.call('XRANGE', topic, '-', '+', 'COUNT', math.min(count, 1000) + 1)
    local till = oldest[#oldest] and oldest[#oldest][1]
    if #oldest <= math.min(count, 1000) then till = nil end
    if till == nil or (floor and before(floor, till)) then till = floor end
    local gone = till and redis.call('XTRIM', topic, 'MINID', till) or 0
    if gone == 0 then
      return redis.error_reply('STREAMFULL ' .. topic .. ' holds what some group has not read')
    end
    over, count, turns = over - gone, count - gone, turns + 1
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
 * KEYS: topic, incarnation. ARGV: group, ID it begins behind, a UUID for the case, '' or: the last ID known to the group
 * before it was lost, behind which it goes on where the topic is the same still, else at its start.
 * Gives the incarnation and the last ID that the group was given.
 */
export const join = `
${common}
redis.call('PERSIST', KEYS[2]) -- even without memory
local start = ARGV[2]
if ARGV[4] ~= '' then
  local last = '0-0'
  if redis.call('EXISTS', KEYS[1]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[1])
    for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
  end
  start = before(last, ARGV[4]) and '0' or ARGV[4]
end
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], start, 'MKSTREAM')
local incarnation = ARGV[3]
if made.err then
  if not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
  incarnation = redis.call('GET', KEYS[2]) or ARGV[3]
end
redis.call('SET', KEYS[2], incarnation)
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local of = {}
  for i = 1, #info, 2 do of[info[i]] = info[i + 1] end
  if of['name'] == ARGV[1] then return {incarnation, of['last-delivered-id']} end
end
return {incarnation, '0-0'}
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
  redis.call('HDEL', KEYS[2], '') -- even without memory
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
 * Nothing is written before all that may be refused was looked at: a script that ends in an error keeps what it wrote.
 * What emits waits while the server is out of memory; all else goes on.
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
local types = {'stream', 'hash', 'hash', 'zset'}
for i = 1, #KEYS do
  local found = redis.call('TYPE', KEYS[i]).ok
  if found ~= 'none' and found ~= (types[i] or 'stream') then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. found)
  end
end
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
for _, row in ipairs(emits) do redis.call('XADD', KEYS[row[1]], '*', unpack(ARGV, row[2], row[3])) end
redis.call('HDEL', retries, '') -- even without memory
for _, row in ipairs(moved) do
  if owner(topic, group, row[1]) == me then
    redis.call('XADD', KEYS[row[2]], '*', unpack(ARGV, row[3], row[4]))
    redis.call('XACK', topic, group, row[1])
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
if #done > 0 then
  sliced('XACK', topic, group, done)
  if redis.call('EXISTS', retries) == 1 then sliced('HDEL', retries, nil, done) end
end
return {1, lost}
`;

/** Moves one entry to another topic. KEYS: from, to. ARGV: ID, values. */
export const move = `
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
`;

/**
 * Removes members that have nothing pending and have been silent for long: whoever is alive reads every few seconds.
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
redis.call('PERSIST', KEYS[1]) -- even without memory
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''
`;

/** Gives a name up, if it is still mine. KEYS: name. ARGV: me. */
export const unname = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
`;
