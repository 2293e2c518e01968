-- ARGV: now, n, worker, delay (ms), ids... Entries that the worker doesn't hold are left alone.
local k, at = base .. ARGV[2] .. ':', string.format('%.0f', now_ms() + ARGV[4])
for i = 5, #ARGV do
  local p = look(k, ARGV[i])
  if p and holder_of(k, p, ARGV[i]) == ARGV[3] then
    redis.call('ZREM', k .. 'ready', ARGV[i])
    redis.call('ZADD', k .. 'due', at, ARGV[i])
    redis.call('XCLAIM', k .. 's', 'g', '-', 0, ARGV[i], 'JUSTID')
    let_go(k, p, ARGV[i])
  end
end
return 1
