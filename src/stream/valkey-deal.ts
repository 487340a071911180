/**
 * Order by key among the members of a group: each key belongs to one member at a time.
 *
 * A key's value is hashed to one of 64 slots, each slot is one member's. Whoever is awake deals what the group has
 * not read yet: in one step it reads, and moves each entry to the pending list of its slot's owner. Since a step reads
 * in the order of the stream and is not interrupted, a member's pending list has each of its keys in that order. Then
 * it takes what is pending for itself behind the last entry it knows.
 *
 * A member lives as long as it renews its lease. When one comes, goes or dies, slots move (as few as can be);
 * `generation` counts these moves, and a member that sees a new one looks through its pending list from the start.
 * What was pending in a slot goes with it: at once where its owner is gone (who was only thought dead can commit nothing
 * that another has, and asks anew), else by hand-over, so that nothing is handled twice: the former owner keeps what is
 * under way, gives up the rest, and until it has settled the last of it the new owner gets nothing of the slot.
 *
 * The members' hash: `m:` name → end of its lease · `s:` slot → owner · `b:` slot → the former owner that has not handed
 * it over yet · `r:` former owner → IDs that are under way there, once it has told them · `d:` name → the last ID that
 * it was given: who dies has what it had up to there counted as delivered once more · `g` → generation.
 *
 * Bounds: 64 slots; a member is dealt entries until `heldMax` are pending for it, then nobody is (a member that
 * stands still holds its group up, visibly: `lag`); a move looks at 10,000 pending entries of each former owner; a
 * hand-over lasts as long as a handler may take, or its owner's lease.
 *
 * A consumer that is no member, such as a worker of PSPF, takes entries past all this: of their keys no order is promised.
 * What it leaves behind is dealt out when it has lain as long as a handler may take.
 */
import { compactKeyField, compactMark } from "../wire/compact.ts";
import { common } from "./valkey-scripts.ts";

/** The slot of an entry, by the key's field. */
const slots = `
local function slotOf(field, id, values)
  local name = values[1] == '${compactMark}' and '${compactKeyField}' or field
  local key = id
  for i = 1, #values, 2 do
    if values[i] == name then
      key = values[i + 1]
      break
    end
  end
  return tonumber(string.sub(redis.sha1hex(key), 1, 2), 16) % 64
end
`;

/**
 * KEYS: topic, retries, members, incarnation. ARGV: group, me, most entries to deal and to give, key's field, lease ms,
 * last ID known or '', most pending for one member, generation known, 'leave' or '', '' or: how long what a consumer that
 * is no member (a worker of PSPF, or one whose hash was lost) has pending must have lain to be dealt out too, ms.
 * Gives incarnation, generation, last ID that the group was given, '' or why there is more to do than to wait for an
 * entry ('full': some member has as much as it may; 'awaiting': a slot of mine is still to be handed over; 'handing
 * over': I am to hand one over), entries as `take` does.
 */
export const deal = `
${common}
${slots}
local topic, retries, members = KEYS[1], KEYS[2], KEYS[3]
local group, me, count, field = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local leaseMs, heldMax, after, foreignMs = tonumber(ARGV[5]), tonumber(ARGV[7]), ARGV[6], ARGV[10]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HDEL', members, '') -- even without memory
local live, names, owners, former, given, generation, changed, gone = {}, {}, {}, {}, {}, '0', false, {}
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
  elseif kind == 'b:' then former[tonumber(name)] = all[i + 1]
  elseif kind == 'd:' then given[name] = all[i + 1]
  elseif kind == 'g' then generation = all[i + 1] end
end
if ARGV[9] == 'leave' then
  if live[me] then changed = true end
  live[me], gone[me], given[me] = nil, true, nil
  redis.call('HDEL', members, 'd:' .. me)
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
local function poorest()
  local best = names[1]
  for _, name in ipairs(names) do if live[name] < live[best] then best = name end end
  return best
end
if changed and #names > 0 then
  local old = {}
  for slot = 0, 63 do
    old[slot] = owners[slot]
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
  generation = tostring(redis.call('HINCRBY', members, 'g', 1))
  local pending = redis.call('XPENDING', topic, group)[4] or {}
  local hasPending = {}
  for _, had in ipairs(pending) do hasPending[had[1]] = true end
  for slot = 0, 63 do
    local was = old[slot]
    if was ~= owners[slot] then redis.call('HSET', members, 's:' .. slot, owners[slot]) end
    local hander = former[slot]
    if not hander and was ~= owners[slot] and live[was] and hasPending[was] then hander = was end
    if hander and (not live[hander] or hander == owners[slot]) then hander = nil end
    if hander then redis.call('HSET', members, 'b:' .. slot, hander)
    elseif former[slot] then redis.call('HDEL', members, 'b:' .. slot) end
    former[slot] = hander
  end
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'r:' then redis.call('HDEL', members, all[i]) end
  end
  for name in pairs(gone) do redis.call('HDEL', members, 'd:' .. name) end
  for _, had in ipairs(pending) do
    local name, rows = had[1], {}
    if live[name] or gone[name] then
      rows = redis.call('XPENDING', topic, group, '-', '+', 10000, name)
    elseif strange[name] then
      rows = redis.call('XPENDING', topic, group, 'IDLE', foreignMs, '-', '+', 10000, name)
    end
    local function deliveriesOf(row)
      local diedWithIt = strange[name] or (gone[name] and given[name] and not before(given[name], row[1]))
      return row[4] + (diedWithIt and 1 or 0)
    end
    for _, row in ipairs(rows) do
      local entry = redis.call('XRANGE', topic, row[1], row[1])[1]
      if entry then
        local slot = slotOf(field, row[1], entry[2])
        local to = owners[slot]
        if to ~= name and former[slot] ~= name then
          redis.call('XCLAIM', topic, group, to, 0, row[1], 'RETRYCOUNT', deliveriesOf(row), 'JUSTID')
        end
      else
        redis.call('XACK', topic, group, row[1])
        redis.call('HDEL', retries, row[1])
      end
    end
  end
end
local incarnation = redis.call('GET', KEYS[4]) or ''
if ARGV[9] == 'leave' then return {incarnation, generation, '', '', {}} end
local last, busy, isMoving = '', '', false
for slot, hander in pairs(former) do
  isMoving = true
  if hander == me then busy = 'handing over'
  elseif owners[slot] == me and busy == '' then busy = 'awaiting' end
end
local isFull = false
for _, had in ipairs(redis.call('XPENDING', topic, group)[4] or {}) do
  if tonumber(had[2]) >= heldMax then isFull = true end
end
if isFull and busy == '' then busy = 'full' end
if not isFull then
  local read = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', count, 'STREAMS', topic, '>')
  local entries = read and read[1] and read[1][2] or {}
  for _, entry in ipairs(entries) do
    last = entry[1]
    local to = owners[slotOf(field, entry[1], entry[2])]
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
local function give(id, deliveries)
  local entry = redis.call('XRANGE', topic, id, id)[1]
  if not entry then
    redis.call('XACK', topic, group, id)
    redis.call('HDEL', retries, id)
    return
  end
  if isMoving then
    local slot = slotOf(field, id, entry[2])
    if owners[slot] ~= me or former[slot] then return end
  end
  out[#out + 1] = {id, deliveries, redis.call('HGET', retries, id) or '0', entry[2]}
end
-- While slots move, entries of others lie among mine: it looks on behind them.
local page = isMoving and math.max(count, 1000) or count
repeat
  local rows = redis.call('XPENDING', topic, group, start, '+', page, me)
  for _, row in ipairs(rows) do
    if #out < count then give(row[1], row[4]) end
    start = '(' .. row[1]
  end
until #rows < page or #out >= count
local furthest = out[#out] and out[#out][1]
if furthest and (not given[me] or before(given[me], furthest)) then
  redis.call('HSET', members, 'd:' .. me, furthest)
end
return {incarnation, generation, last, busy, out}
`;

/**
 * A member's name is taken by who comes after a crash: what it had been given counts as delivered once more, and is dealt
 * to it as to any other, since what is pending for it may have to wait for a hand-over. KEYS: topic, members. ARGV: group,
 * me.
 */
export const comeBack = `
${common}
local topic, members, group, me = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
redis.call('HDEL', members, '') -- even without memory
local given = redis.call('HGET', members, 'd:' .. me)
if not given then return 0 end
local rows = redis.call('XPENDING', topic, group, '-', given, 10000, me)
for _, row in ipairs(rows) do
  redis.call('XCLAIM', topic, group, me, 0, row[1], 'RETRYCOUNT', row[4] + 1, 'JUSTID')
end
redis.call('HDEL', members, 'd:' .. me)
return #rows
`;

/**
 * Gives up what lies in slots that are to be handed over and is not under way. KEYS: topic, members. ARGV: group, me,
 * key's field, generation known (of another nothing is done: of what moved since, more may be begun by now), IDs that are
 * under way. Gives how many of these are still to be settled before the slots are handed over.
 */
export const handOver = `
${common}
${slots}
local topic, members, group, me = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
redis.call('HDEL', members, '') -- even without memory
local owners, done, told, underWay, generation = {}, {}, nil, {}, '0'
local all = redis.call('HGETALL', members)
for i = 1, #all, 2 do
  local kind, name = string.sub(all[i], 1, 2), string.sub(all[i], 3)
  if kind == 's:' then owners[tonumber(name)] = all[i + 1]
  elseif kind == 'b:' and all[i + 1] == me then done[#done + 1] = all[i]
  elseif kind == 'r:' and name == me then told = all[i + 1]
  elseif kind == 'g' then generation = all[i + 1] end
end
if #done == 0 or generation ~= ARGV[4] then return 0 end
for i = 5, #ARGV do underWay[ARGV[i]] = true end
local ids, isWhole = {}, true
if told then
  for id in string.gmatch(told, '%S+') do if owner(topic, group, id) == me then ids[#ids + 1] = id end end
else
  local rows = redis.call('XPENDING', topic, group, '-', '+', 10000, me)
  for i, row in ipairs(rows) do ids[i] = row[1] end
  isWhole = #rows < 10000
end
local left = {}
for _, id in ipairs(ids) do
  local entry = redis.call('XRANGE', topic, id, id)[1]
  local to = entry and owners[slotOf(ARGV[3], id, entry[2])] or me
  if to ~= me then
    if underWay[id] then left[#left + 1] = id
    else redis.call('XCLAIM', topic, group, to, 0, id, 'JUSTID') end
  end
end
if #left > 0 then
  if isWhole then redis.call('HSET', members, 'r:' .. me, table.concat(left, ' ')) end
elseif isWhole then
  redis.call('HDEL', members, 'r:' .. me, unpack(done))
  redis.call('HINCRBY', members, 'g', 1)
end
return #left
`;
