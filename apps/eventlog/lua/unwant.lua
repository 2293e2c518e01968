-- ARGV: now, partition, when it was found unwanted (s).
--
--   unwanted          zset    partition -> when (s)
--   unwanted:version  string  changes with it, so that processes need not read it for nothing
redis.call('ZADD', base .. 'unwanted', 'GT', ARGV[3], ARGV[2])
redis.call('INCR', base .. 'unwanted:version')
return 1
