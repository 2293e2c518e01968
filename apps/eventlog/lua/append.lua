-- ARGV: now, kind, partition, payload, salt. Returns 1, or 0 when the partition is unwanted.
--
-- Ids rise, and the salt makes sure that a server that took over, or came back, with less than we
-- knew never gives an id again that a worker still means to acknowledge.
local now = now_ms()
local n = redis.call('HGET', base .. 'kinds', ARGV[2])
if not n then
  n = redis.call('HLEN', base .. 'kinds') + 1
  if n > 15 then return redis.error_reply('KINDS there are too many') end
  redis.call('HSET', base .. 'kinds', ARGV[2], n)
  redis.call('XGROUP', 'CREATE', base .. n .. ':s', 'g', '0', 'MKSTREAM')
end
local k = base .. n .. ':'
local last = tonumber(redis.call('GET', k .. 'last') or '0')
local first = string.format('%.0f', math.max(now, last + 1))
redis.call('SET', k .. 'last', first)
redis.call('XADD', k .. 's', first .. '-' .. ARGV[5],
  'p', ARGV[3], 't', string.format('%.0f', now), 'd', ARGV[4])
return redis.call('ZSCORE', base .. 'unwanted', ARGV[3]) and 0 or 1
