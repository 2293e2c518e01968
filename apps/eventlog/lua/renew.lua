-- ARGV: now, n, worker, lease (ms), ids... Returns how many the worker still holds.
local k, ends, held = base .. ARGV[2] .. ':', string.format('%.0f', now_ms() + ARGV[4]), 0
for i = 5, #ARGV do
  local p = look(k, ARGV[i])
  if p and holder_of(k, p, ARGV[i]) == ARGV[3] then
    redis.call('ZREM', k .. 'ready', ARGV[i])
    redis.call('ZADD', k .. 'due', ends, ARGV[i])
    held = held + 1
  end
end
return held
