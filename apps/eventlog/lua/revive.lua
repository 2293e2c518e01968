-- ARGV: now, partitions...
for i = 2, #ARGV do
  redis.call('DEL', base .. 'dead:' .. ARGV[i])
  redis.call('ZREM', base .. 'dead', ARGV[i])
  redis.call('ZREM', base .. 'buried', ARGV[i])
end
return 1
