-- ARGV: now, until (ms), keys... Keeps the later end; `seen:<key>` goes by itself.
local till = tonumber(ARGV[2])
for i = 3, #ARGV do
  local key = base .. 'seen:' .. ARGV[i]
  if tonumber(redis.call('GET', key) or 0) < till then
    redis.call('SET', key, ARGV[2], 'PX', string.format('%.0f', math.max(1, till - now_ms())))
  end
end
return 1
