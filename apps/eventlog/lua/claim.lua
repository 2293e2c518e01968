-- ARGV: now, kind, worker, limit, lease (ms), partitions to skip...
-- Returns {n, more, {id, partition, when (ms), payload, attempts}...}; more is 1 when so much was
-- put aside that the script stopped short.
--
-- XAUTOCLAIM would go by the idle time alone; here leases have lengths of their own, are renewed,
-- and a partition belongs to one worker. So the ends of leases are kept, and entries change hands
-- by XCLAIM.
local n = redis.call('HGET', base .. 'kinds', ARGV[2])
if not n then return {0, 0} end
local k, worker, limit, now = base .. n .. ':', ARGV[3], tonumber(ARGV[4]), now_ms()
local lease_ends = string.format('%.0f', now + ARGV[5])
local due, ready, stream = k .. 'due', k .. 'ready', k .. 's'
local skip, holders, taken, budget, released = {}, {}, {tonumber(n), 0}, 2000, false
for i = 6, #ARGV do skip[ARGV[i]] = true end

-- Who holds a partition under a live lease; one whose leases have all run out holds it no more.
local function holder(p)
  if holders[p] ~= nil then return holders[p] end
  local who = redis.call('HGET', k .. 'held:' .. p, 'w')
  if who and who ~= worker then
    local live = false
    for _, id in ipairs(redis.call('HKEYS', k .. 'held:' .. p)) do
      live = live or (tonumber(redis.call('ZSCORE', due, id) or 0) > now)
    end
    if not live then
      release(k, p, who)
      who, released = false, true
    end
  end
  holders[p] = who
  return who
end

local function take(p, id, when, payload, attempts)
  redis.call('ZREM', ready, id)
  redis.call('ZADD', due, lease_ends, id)
  redis.call('HSET', k .. 'held:' .. p, 'w', worker, id, 1)
  holders[p] = worker
  taken[#taken + 1] = {id, p, when, payload, attempts}
end

local function park(p, id)
  redis.call('ZREM', ready, id)
  redis.call('HDEL', k .. 'held:' .. p, id)
  redis.call('ZADD', k .. 'parked:' .. p, 0, id)
  redis.call('SADD', k .. 'mine:' .. holders[p], p)
end

local function full() return #taken - 2 >= limit or budget <= 0 end

-- 1. What is due again: leases and delays that have run out.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now)) do make_ready(k, id) end
redis.call('ZREMRANGEBYSCORE', due, '-inf', now)

-- 2. What was put aside while this worker held its partition.
for _, p in ipairs(redis.call('SMEMBERS', k .. 'mine:' .. worker)) do
  if not skip[p] then
    unpark(k, p)
    redis.call('SREM', k .. 'mine:' .. worker, p)
  end
end

-- 3. What was handed out before. Returns false when the entry stays where it is.
local function again(id)
  local p, when, payload = look(k, id)
  if not p then
    redis.call('ZREM', ready, id)
    return true
  end
  local who = holder(p)
  if released then return false end
  if who and (who ~= worker or skip[p]) then
    -- This worker's own, past its lease: still its own to renew.
    if who == worker and holder_of(k, p, id) then return false end
    park(p, id)
    return true
  end
  if skip[p] then return false end
  redis.call('XCLAIM', stream, 'g', worker, 0, id, 'FORCE')
  take(p, id, when, payload, redis.call('XPENDING', stream, 'g', id, id, 1)[1][4])
  return true
end

local left = 0
while not full() do
  local page = redis.call('ZRANGE', ready, left, left + math.max(limit, 100))
  if #page == 0 then break end
  for _, id in ipairs(page) do
    if full() then break end
    local gone = again(id)
    if released then  -- what was parked there is ready now, and may be older: look anew
      left, released = 0, false
      break
    end
    if gone then budget = budget - 1 else left = left + 1 end
  end
end

-- 4. What nobody has had yet. What can't be handed out counts as not yet tried.
while not full() do
  local room = math.min(limit - #taken + 2, budget)
  local new = redis.call('XREADGROUP', 'GROUP', 'g', worker, 'COUNT', room, 'STREAMS', stream, '>')
  if not new then break end
  for _, entry in ipairs(new[1][2]) do
    local id, fields = entry[1], entry[2]
    local p, who = fields[2], holder(fields[2])
    budget = budget - 1
    if not skip[p] and (not who or who == worker) then
      take(p, id, fields[4], fields[6], 1)
    else
      redis.call('XCLAIM', stream, 'g', '-', 0, id, 'RETRYCOUNT', 0, 'JUSTID')
      if who then park(p, id) else make_ready(k, id) end
    end
  end
end
if budget <= 0 then taken[2] = 1 end
return taken
