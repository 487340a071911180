/**
 * What the plane does on the server in one step, in Lua; valkey.ts has the essay. Every script names its two keys: the
 * stream, and the mark (a hash: stream to "device epoch" of who projects it).
 *
 * Bounds: `unpack` carries about 8,000 values: an entry has at most 1,000 keys of a payload, IDs go in slices.
 */

/** `base` + seq is the ms half of our IDs. Whatever is far beyond, or has an n, somebody else has added. */
export const idBase = 1_000_000_000_000;

const ours = `
local function seqOf(id)
  local ms, n = string.match(id, '^(%d+)%-(%d+)$')
  local seq = tonumber(ms) - ${idBase}
  if n ~= '0' or seq < 0 or seq >= 500000000000 then return nil end
  return seq
end
local function field(list, name)
  for i = 1, #list, 2 do if list[i] == name then return list[i + 1] end end
end
`;

/**
 * Takes a stream into use. KEYS: stream, mark. ARGV: device, epoch, head.
 * Gives the newest seq that is there, -1 where there is none. A stream of another history, or one into which somebody
 * else has written, begins anew; the groups that it has are kept, at its beginning or where they stood, if that is less.
 */
export const resume = `
${ours}
local stream, mark = KEYS[1], KEYS[2]
local owner, head = ARGV[1] .. ' ' .. ARGV[2], tonumber(ARGV[3])
local known = redis.call('HGET', mark, stream)
if redis.call('EXISTS', stream) == 0 then
  redis.call('HSET', mark, stream, owner)
  return -1
end
local last = field(redis.call('XINFO', 'STREAM', stream), 'last-generated-id')
if last == '0-0' then
  redis.call('HSET', mark, stream, owner)
  return -1
end
if not known then return redis.error_reply('FOREIGN entries that no agent has put there') end
if string.match(known, '^(%S+)') ~= ARGV[1] then
  return redis.error_reply('FOREIGN entries of device ' .. string.match(known, '^(%S+)'))
end
local seq = seqOf(last)
if known == owner and seq and seq <= head then return seq end
local groups = redis.call('XINFO', 'GROUPS', stream)
redis.call('DEL', stream)
for _, info in ipairs(groups) do
  local at = seqOf(field(info, 'last-delivered-id'))
  local id = '0-0'
  if at and at <= head then id = field(info, 'last-delivered-id') end
  redis.call('XGROUP', 'CREATE', stream, field(info, 'name'), id, 'MKSTREAM')
end
redis.call('HSET', mark, stream, owner)
return -1
`;

/**
 * Appends entries, skipping those that are there. KEYS: stream, mark. ARGV: "device epoch", entries
 * (pack.ts). Gives the newest seq, -1 where the stream must be resumed first, -2 where somebody has written
 * into it.
 */
export const project = `
${ours}
local stream = KEYS[1]
if redis.call('HGET', KEYS[2], stream) ~= ARGV[1] then return -1 end
local top = 0
if redis.call('EXISTS', stream) == 1 then
  local last = field(redis.call('XINFO', 'STREAM', stream), 'last-generated-id')
  if last ~= '0-0' then
    top = seqOf(last)
    if not top then return -2 end
  end
end
local entries = cmsgpack.unpack(ARGV[2])
for at = 1, #entries, 2 do
  local seq = tonumber(entries[at])
  if seq > top then
    redis.call('XADD', stream, string.format('%.0f-0', ${idBase} + seq), unpack(entries[at + 1]))
    top = seq
  end
end
return top
`;

/**
 * Puts a group where the journal's cursor says, with nothing pending, unless the stream is another's. KEYS: stream, mark.
 * ARGV: group, seq, consumer, device.
 */
export const attach = `
local known = redis.call('HGET', KEYS[2], KEYS[1])
if known and string.match(known, '^(%S+)') ~= ARGV[4] then
  return redis.error_reply('FOREIGN entries of device ' .. string.match(known, '^(%S+)'))
end
if not known and redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XLEN', KEYS[1]) > 0 then
  return redis.error_reply('FOREIGN entries that no agent has put there')
end
local id = string.format('%.0f-0', ${idBase} + tonumber(ARGV[2]))
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], id, 'MKSTREAM')
if not made.err then return 1 end
if not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[3])
redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], id)
return 0
`;

/** XACK of everything from one seq to another. KEYS: stream, mark. ARGV: group, from, to. */
export const acknowledge = `
local from, to, count = tonumber(ARGV[2]), tonumber(ARGV[3]), 0
for first = from, to, 1000 do
  local call = {'XACK', KEYS[1], ARGV[1]}
  for seq = first, math.min(first + 999, to) do
    call[#call + 1] = string.format('%.0f-0', ${idBase} + seq)
  end
  count = count + redis.call(unpack(call))
end
return count
`;
