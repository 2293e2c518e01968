-- ARGV: now, partition, when it was found unwanted (s), or '' for wanted again.
--
--   unwanted          zset    partition -> when (s)
--   unwanted:version  string  changes with it, so that processes need not read it for nothing
if ARGV[3] == '' then
  redis.call('ZREM', base .. 'unwanted', ARGV[2])
else
  redis.call('ZADD', base .. 'unwanted', 'GT', ARGV[3], ARGV[2])
end
redis.call('INCR', base .. 'unwanted:version')
return 1
