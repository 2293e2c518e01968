-- ARGV: now, {partition, time (s), mark}... An older sign never hides a newer one.
--
--   signs  zset  partition -> its last sign of life (s)
--   marks  hash  partition -> the newest mark
for i = 2, #ARGV, 3 do
  local known = redis.call('ZSCORE', base .. 'signs', ARGV[i])
  if not known or tonumber(known) < tonumber(ARGV[i + 1]) then
    redis.call('ZADD', base .. 'signs', ARGV[i + 1], ARGV[i])
    if ARGV[i + 2] ~= '' then redis.call('HSET', base .. 'marks', ARGV[i], ARGV[i + 2]) end
  end
end
return 1
