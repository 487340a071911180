/**
 * Order by key among the members of a group: each key belongs to one member at a time.
 *
 * A key's value is hashed to one of 64 slots, each slot is one member's. Whoever is awake deals what the group has
 * not read yet: in one step it reads, and moves each entry to the pending list of its slot's owner. Since a step reads
 * in the order of the stream and is not interrupted, a member's pending list has each of its keys in that order. Then
 * it takes what is pending for itself behind the last entry it knows.
 *
 * A member lives as long as it renews its lease. When one comes, goes or dies, slots move (as few as can be) and with
 * them, in the same step, what was pending in them; `generation` counts these moves, and a member that sees a new one
 * looks through its pending list from the start. Whoever lost a slot amid its work is refused when it commits.
 *
 * Bounds: 64 slots; a member is dealt entries until `heldMax` are pending for it, then nobody is (a member that
 * stands still holds its group up, visibly: `lag`); a move looks at 10,000 pending entries of each former owner.
 *
 * A consumer that is no member, such as a worker of PSPF, takes entries past all this: of their keys no order is promised.
 * What it leaves behind is dealt out when it has lain as long as a handler may take.
 */
import { compactKeyField, compactMark } from "../wire/compact.ts";
import { common } from "./valkey-scripts.ts";

/**
 * KEYS: topic, retries, members, incarnation. ARGV: group, me, most entries to deal and to give, key's field, lease ms,
 * last ID known or '', most pending for one member, generation known, 'leave' or '', '' or: how long what a consumer that
 * is no member (a worker of PSPF, or one whose hash was lost) has pending must have lain to be dealt out too, ms.
 * Gives incarnation, generation, last ID that the group was given, '1' where dealing stopped at the bound, entries as
 * `take` does.
 */
export const deal = `
${common}
local topic, retries, members = KEYS[1], KEYS[2], KEYS[3]
local group, me, count, field = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local leaseMs, heldMax, after, foreignMs = tonumber(ARGV[5]), tonumber(ARGV[7]), ARGV[6], ARGV[10]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HDEL', members, '') -- even without memory
local live, names, owners, generation, changed, gone = {}, {}, {}, '0', false, {}
local all = redis.call('HGETALL', members)
for i = 1, #all, 2 do
  local kind, name = string.sub(all[i], 1, 2), string.sub(all[i], 3)
  if kind == 'm:' then
    if tonumber(all[i + 1]) > now or (name == me and ARGV[9] ~= 'leave') then live[name] = 0
    else
      redis.call('HDEL', members, all[i])
      changed, gone[name] = true, true
    end
  elseif kind == 's:' then owners[tonumber(name)] = all[i + 1]
  else generation = all[i + 1] end
end
if ARGV[9] == 'leave' then
  if live[me] then changed = true end
  live[me], gone[me] = nil, true
  -- Who comes next must know whose it was what is pending: a name without a lease is kept by the last that goes.
  if next(live) then redis.call('HDEL', members, 'm:' .. me)
  else redis.call('HSET', members, 'm:' .. me, '0') end
else
  if not live[me] then
    live[me] = 0
    changed = true
  end
  redis.call('HSET', members, 'm:' .. me, string.format('%.0f', now + leaseMs))
end
local strange = {}
if foreignMs ~= '' then
  for _, had in ipairs(redis.call('XPENDING', topic, group)[4] or {}) do
    if not live[had[1]] and not gone[had[1]] then
      local idle = redis.call('XPENDING', topic, group, 'IDLE', foreignMs, '-', '+', 1, had[1])
      if #idle > 0 then changed, strange[had[1]] = true, true end
    end
  end
end
for name in pairs(live) do names[#names + 1] = name end
table.sort(names)
local function slotOf(value)
  return tonumber(string.sub(redis.sha1hex(value), 1, 2), 16) % 64
end
local function keyOf(id, values)
  local name = values[1] == '${compactMark}' and '${compactKeyField}' or field
  for i = 1, #values, 2 do if values[i] == name then return values[i + 1] end end
  return id
end
local function poorest()
  local best = names[1]
  for _, name in ipairs(names) do if live[name] < live[best] then best = name end end
  return best
end
if changed and #names > 0 then
  local before = {}
  for slot = 0, 63 do
    before[slot] = owners[slot]
    if owners[slot] and live[owners[slot]] then live[owners[slot]] = live[owners[slot]] + 1
    else owners[slot] = nil end
  end
  for slot = 0, 63 do
    if not owners[slot] then
      owners[slot] = poorest()
      live[owners[slot]] = live[owners[slot]] + 1
    end
  end
  for slot = 0, 63 do
    local poor = poorest()
    if live[owners[slot]] - live[poor] > 1 then
      live[owners[slot]] = live[owners[slot]] - 1
      owners[slot] = poor
      live[poor] = live[poor] + 1
    end
  end
  for slot = 0, 63 do
    if before[slot] ~= owners[slot] then redis.call('HSET', members, 's:' .. slot, owners[slot]) end
  end
  generation = tostring(redis.call('HINCRBY', members, 'g', 1))
  local summary = redis.call('XPENDING', topic, group)
  for _, had in ipairs(summary[4] or {}) do
    local died = not live[had[1]]
    local rows = {}
    if live[had[1]] or gone[had[1]] then
      rows = redis.call('XPENDING', topic, group, '-', '+', 10000, had[1])
    elseif strange[had[1]] then
      rows = redis.call('XPENDING', topic, group, 'IDLE', foreignMs, '-', '+', 10000, had[1])
    end
    for _, row in ipairs(rows) do
      local entry = redis.call('XRANGE', topic, row[1], row[1])[1]
      if entry then
        local to = owners[slotOf(keyOf(row[1], entry[2]))]
        if to ~= had[1] then
          redis.call('XCLAIM', topic, group, to, 0, row[1], 'RETRYCOUNT', row[4] + (died and 1 or 0), 'JUSTID')
        end
      else
        redis.call('XACK', topic, group, row[1])
        redis.call('HDEL', retries, row[1])
      end
    end
  end
end
local incarnation = redis.call('GET', KEYS[4]) or ''
if ARGV[9] == 'leave' then return {incarnation, generation, '', '0', {}} end
local last, full = '', '0'
for _, had in ipairs(redis.call('XPENDING', topic, group)[4] or {}) do
  if tonumber(had[2]) >= heldMax then full = '1' end
end
if full == '0' then
  local read = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', count, 'STREAMS', topic, '>')
  local entries = read and read[1] and read[1][2] or {}
  for _, entry in ipairs(entries) do
    last = entry[1]
    local to = owners[slotOf(keyOf(entry[1], entry[2]))]
    if to ~= me then redis.call('XCLAIM', topic, group, to, 0, entry[1], 'JUSTID') end
  end
end
if last == '' then
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', topic)) do
    local of = {}
    for i = 1, #info, 2 do of[info[i]] = info[i + 1] end
    if of['name'] == group then last = of['last-delivered-id'] end
  end
end
local start = '-'
if after ~= '' and generation == ARGV[8] then start = '(' .. after end
local out = {}
for _, row in ipairs(redis.call('XPENDING', topic, group, start, '+', count, me)) do
  local entry = redis.call('XRANGE', topic, row[1], row[1])[1]
  if entry then
    out[#out + 1] = {row[1], row[4], redis.call('HGET', retries, row[1]) or '0', entry[2]}
  else
    redis.call('XACK', topic, group, row[1])
    redis.call('HDEL', retries, row[1])
  end
end
return {incarnation, generation, last, full, out}
`;
