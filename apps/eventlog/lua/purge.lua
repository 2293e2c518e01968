-- ARGV: now, then the times (s) up to which dead letters, unwanted marks and signs are too old,
-- and for how long (ms) a worker must have been away. Returns 1 when there may be more.
local more = 0

local function old(key, before)
  local found = redis.call('ZRANGEBYSCORE', base .. key, '-inf', before, 'LIMIT', 0, 500)
  if #found == 500 then more = 1 end
  return found
end

for _, p in ipairs(old('buried', ARGV[2])) do
  redis.call('DEL', base .. 'dead:' .. p)
  redis.call('ZREM', base .. 'dead', p)
  redis.call('ZREM', base .. 'buried', p)
end
if redis.call('ZREMRANGEBYSCORE', base .. 'unwanted', '-inf', ARGV[3]) > 0 then
  redis.call('INCR', base .. 'unwanted:version')
end
for _, p in ipairs(old('signs', ARGV[4])) do
  redis.call('ZREM', base .. 'signs', p)
  redis.call('HDEL', base .. 'marks', p)
end
-- Every process that ever claimed is a consumer; one that still holds something must stay.
for _, n in ipairs(redis.call('HVALS', base .. 'kinds')) do
  local stream = base .. n .. ':s'
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, 'g')) do
    local about = {}
    for i = 1, #consumer, 2 do about[consumer[i]] = consumer[i + 1] end
    if about['pending'] == 0 and about['idle'] > tonumber(ARGV[5]) then
      redis.call('XGROUP', 'DELCONSUMER', stream, 'g', about['name'])
    end
  end
end
return more
