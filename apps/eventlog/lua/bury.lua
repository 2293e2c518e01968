-- ARGV: now, n, id, reason, kind, time by the subscriptions' clock (s).
--
--   dead      zset  partition -> when its oldest dead letter was appended (ms)
--   buried    zset  partition -> when its newest one was buried (s), for purging
--   dead:<p>  list  the newest dead letters of p, as JSON
local k, id = base .. ARGV[2] .. ':', ARGV[3]
local p, when = look(k, id)
if not p then return 0 end
local pending = redis.call('XPENDING', k .. 's', 'g', id, id, 1)[1]
local letter = cjson.encode({
  kind = ARGV[5], reason = ARGV[4], attempts = pending and pending[4] or 0,
  appended_at = when / 1000, buried_at = tonumber(ARGV[6]),
})
redis.call('LPUSH', base .. 'dead:' .. p, letter)
redis.call('LTRIM', base .. 'dead:' .. p, 0, 99)
redis.call('ZADD', base .. 'dead', 'LT', when, p)
redis.call('ZADD', base .. 'buried', 'GT', ARGV[6], p)
delete(k, p, id)
return 1
