-- What the store remembers of itself; written by the first that asks.
-- ARGV: secret, digest of the settings, both in hexadecimal digits
local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
local birth = redis.call('GET', KEYS[1])
if not birth then
  birth = table.concat({ '1', now, ARGV[1], ARGV[2] }, ' ')
  redis.call('SET', KEYS[1], birth)
end
return { now, birth }
