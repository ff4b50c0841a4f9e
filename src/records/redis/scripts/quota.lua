-- What one principal holds, in bytes, by the time at which it goes: a hash of span to bytes.
-- ARGV: the length of a span in milliseconds, then pairs of the distance of a span from now, in
--       milliseconds, and the bytes to add to it. Answers with the sum of what has not gone yet.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local span = tonumber(ARGV[1])
local here = math.floor(now / span)
for place = 2, #ARGV, 2 do
  local at = math.floor((now + tonumber(ARGV[place])) / span)
  redis.call('HINCRBY', KEYS[1], string.format('%.0f', at), ARGV[place + 1])
end
local sum, last = 0, here
local held = redis.call('HGETALL', KEYS[1])
for place = 1, #held, 2 do
  local at, bytes = tonumber(held[place]), tonumber(held[place + 1])
  if not at or not bytes or at < here then
    redis.call('HDEL', KEYS[1], held[place])
  else
    sum, last = sum + bytes, math.max(last, at)
  end
end
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', (last + 1) * span))
return string.format('%.0f', math.max(sum, 0))
