-- Put in front of every script. KEYS[1] is the beginning of all keys (with a hash tag, so that
-- they are together wherever they are), ARGV[1] the time in ms, or '' for this server's own.
--
--   kinds           hash    kind -> number n
--   <n>:s           stream  entries: p partition, t when appended (ms), d payload; group g
--   <n>:last        string  the first half of the newest id
--   <n>:due         zset    delivered id -> end of its lease or delay (ms)
--   <n>:ready       zset    delivered id that anyone may claim -> its first half, so oldest first
--   <n>:held:<p>    hash    w -> who holds partition p; id -> 1 for each entry held
--   <n>:parked:<p>  zset    delivered ids that wait until nobody holds p
--   <n>:mine:<w>    set     partitions that worker w holds and for which something is parked
local base = KEYS[1]

local function now_ms()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- An entry's partition, when (ms) and payload; nil when there is none.
local function look(k, id)
  local found = redis.call('XRANGE', k .. 's', id, id)
  if not found[1] then return nil end
  local fields = found[1][2]
  return fields[2], fields[4], fields[6]
end

local function make_ready(k, id)
  redis.call('ZADD', k .. 'ready', string.match(id, '^%d+'), id)
end

local function unpark(k, p)
  for _, id in ipairs(redis.call('ZRANGE', k .. 'parked:' .. p, 0, -1)) do make_ready(k, id) end
  redis.call('DEL', k .. 'parked:' .. p)
end

-- Nobody holds the partition any more.
local function release(k, p, worker)
  redis.call('DEL', k .. 'held:' .. p)
  redis.call('SREM', k .. 'mine:' .. worker, p)
  unpark(k, p)
end

-- The worker that holds an entry, when one does.
local function holder_of(k, p, id)
  if redis.call('HEXISTS', k .. 'held:' .. p, id) == 0 then return nil end
  return redis.call('HGET', k .. 'held:' .. p, 'w')
end

-- An entry is held no longer; with its last one the partition is free.
local function let_go(k, p, id)
  local held = k .. 'held:' .. p
  if redis.call('HDEL', held, id) == 1 and redis.call('HLEN', held) == 1 then
    release(k, p, redis.call('HGET', held, 'w'))
  end
end

local function delete(k, p, id)
  redis.call('XACK', k .. 's', 'g', id)
  redis.call('XDEL', k .. 's', id)
  redis.call('ZREM', k .. 'due', id)
  redis.call('ZREM', k .. 'ready', id)
  redis.call('ZREM', k .. 'parked:' .. p, id)
  let_go(k, p, id)
end
