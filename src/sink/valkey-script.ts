/**
 * What the server does in one step, in Lua: appends what is not there yet, and notes what is.
 *
 * Beside each stream, in its slot, lies a hash for each (device, stream) whose events go there. A field is an epoch, its
 * value the ranges of seq that the stream was given, with the digest of the last event of each:
 * `1-2048:Zk3…,4097-6000:q0d…`. Adjacent ranges are one.
 *
 * Bounds: 64 ranges an epoch (of more the two lowest become one: what lay between them was never to come), 64 epochs a
 * hash (seq goes on counting over epochs, so the one that ends lowest is the oldest, and goes). Lua's `unpack` carries
 * about 8,000 values, hence `entryValuesMax`. Lua's numbers are exact to 2 ** 53, which seq never reaches.
 */

/** Names and values of one entry. */
export const entryValuesMax = 2_000;

/** Of one epoch and stream, and of one stream's epochs. */
export const rangesMax = 64;
export const epochsMax = 64;

/**
 * KEYS: stream, hash. ARGV: epoch, what its field holds as far as the sender knows, the span's first and last seq, the
 * digest of its last event, maxLength or 0, entries, then for each entry its seq, the number of its values, those.
 *
 * Gives 1 and what the field holds now, or 0 and what it holds where that is not what the sender believes: then
 * nothing has happened. An entry whose seq is held is skipped. Where an entry cannot be appended those before it are
 * taken back, and nothing has happened.
 */
export const deliver = `
local stream, hash, epoch, believed = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local first, last, digest, maxLength = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local held = redis.call('HGET', hash, epoch) or ''
if held ~= believed then return {0, held} end
local function parse(text)
  local ranges = {}
  for from, to, mark in string.gmatch(text, '(%d+)-(%d+):([^,]*)') do
    ranges[#ranges + 1] = {tonumber(from), tonumber(to), mark}
  end
  return ranges
end
local ranges = parse(held)
local function has(seq)
  for _, range in ipairs(ranges) do
    if seq >= range[1] and seq <= range[2] then return true end
  end
  return false
end
local ids, at = {}, 8
for _ = 1, tonumber(ARGV[7]) do
  local count = tonumber(ARGV[at + 1])
  if not has(tonumber(ARGV[at])) then
    local id = redis.pcall('XADD', stream, '*', unpack(ARGV, at + 2, at + 1 + count))
    if type(id) == 'table' then
      for _, made in ipairs(ids) do redis.call('XDEL', stream, made) end
      return id
    end
    ids[#ids + 1] = id
  end
  at = at + 2 + count
end
if held == '' and redis.call('HLEN', hash) >= ${epochsMax} then
  local all, oldest, ends = redis.call('HGETALL', hash), nil, nil
  for i = 1, #all, 2 do
    local known = parse(all[i + 1])
    local to = known[#known] and known[#known][2] or 0
    if ends == nil or to < ends then oldest, ends = all[i], to end
  end
  redis.call('HDEL', hash, oldest)
end
ranges[#ranges + 1] = {first, last, digest}
table.sort(ranges, function(a, b)
  if a[1] ~= b[1] then return a[1] < b[1] end
  return a[2] < b[2]
end)
local merged = {}
for _, range in ipairs(ranges) do
  local before = merged[#merged]
  if before == nil or range[1] > before[2] + 1 then merged[#merged + 1] = range
  elseif range[2] >= before[2] then before[2], before[3] = range[2], range[3] end
end
while #merged > ${rangesMax} do
  merged[2][1] = merged[1][1]
  table.remove(merged, 1)
end
for i, range in ipairs(merged) do
  merged[i] = string.format('%.0f-%.0f:%s', range[1], range[2], range[3])
end
local now = table.concat(merged, ',')
redis.call('HSET', hash, epoch, now)
if maxLength > 0 then redis.call('XTRIM', stream, 'MAXLEN', '~', maxLength) end
return {1, now}
`;
