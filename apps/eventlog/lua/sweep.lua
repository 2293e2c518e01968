-- ARGV: now, n, idle (ms), id to begin at. Returns the id to go on at, 0-0 at the end.
--
-- A net below the rest: what the consumer group handed out long ago and nothing here knows of (an
-- operator's hand, a script that failed half-way) is due again.
local k = base .. ARGV[2] .. ':'
local found = redis.call('XAUTOCLAIM', k .. 's', 'g', '-', ARGV[3], ARGV[4], 'COUNT', 500, 'JUSTID')
for _, id in ipairs(found[2]) do
  local p = look(k, id)
  local known = redis.call('ZSCORE', k .. 'due', id) or redis.call('ZSCORE', k .. 'ready', id)
    or p and redis.call('ZSCORE', k .. 'parked:' .. p, id)
  if p and not known then make_ready(k, id) end
end
return found[1]
