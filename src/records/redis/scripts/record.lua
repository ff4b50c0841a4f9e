-- What every script begins with: the server's time, the record as it stands now, and how it is
-- written. KEYS[1] is the record, a hash of two: `an` is its answer, and `r` is all the rest:
--   1 version, 1 state, 1 contested, 33 fingerprint, 24 owner, 16 nonce, 8 principal, and then with
--   commas between them: fence, lease_until, first_seen, completed, attempts, observed status,
--   doubt, body_until, keep_until, status; at its end 16 digits of a sum of it and its key.
-- One string, because a hash of many fields takes four times the memory.
-- Times are milliseconds in decimal digits, and what never comes is the largest 64-bit number.
-- Numbers in Lua are doubles: exact up to 2^53, which microseconds reach in the year 2255.
local NEVER, EXACT, LEASE_MAX = '18446744073709551615', 9007199254740992, 600000
-- What comes after the fixed part, in order, and what of it is calculated with.
local REST = { 'fe', 'lu', 'fs', 'dn', 'at', 'os', 'db', 'bu', 'ku', 'st' }
local PATTERN = '^(%d+),(%d+),(%d+),(%d+),(%d+),(%d*),(%d*),(%d+),(%d+),(%d*)$'
local NUMBERS = { 'lu', 'fs', 'dn', 'at', 'bu', 'ku' }

local clock = redis.call('TIME')
local micros = clock[1] * 1000000 + clock[2]
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function digits(number)
  if number >= EXACT then return NEVER end
  return string.format('%.0f', number)
end

local function number(text)
  if not text or not string.find(text, '^%d+$') then return nil end
  local value = tonumber(text)
  if value >= EXACT then return math.huge end
  return value
end

local stamp = digits(micros)

local function sum(packed)
  return string.sub(redis.sha1hex(KEYS[1] .. packed), 1, 16)
end

-- The record as it is written; nothing when there is none, false when it cannot be read.
local function written()
  local kind = redis.call('TYPE', KEYS[1]).ok
  if kind == 'none' then return nil end
  if kind ~= 'hash' then return false end
  local packed = redis.call('HGET', KEYS[1], 'r')
  if not packed or not string.find(packed, '^1[FCRUT][01]') then return false end
  local found = string.sub(packed, -16)
  packed = string.sub(packed, 1, -17)
  if found ~= sum(packed) then return false end
  local record = {
    s = string.sub(packed, 2, 2), ct = string.sub(packed, 3, 3), fp = string.sub(packed, 4, 36),
    ow = string.sub(packed, 37, 60), nc = string.sub(packed, 61, 76),
    pr = string.sub(packed, 77, 84),
  }
  local rest = { string.match(string.sub(packed, 85), PATTERN) }
  if #rest ~= #REST then return false end
  for place, name in ipairs(REST) do record[name] = rest[place] end
  for _, name in ipairs(NUMBERS) do record[name] = number(record[name]) end
  return record
end

-- Expiry goes first. It is a write that a full server takes, and after one a script may write on:
-- what is known of an operation is not lost because there is no room for new ones.
local function expire(record)
  if record.ku >= EXACT then
    redis.call('PERSIST', KEYS[1])
  else
    redis.call('PEXPIREAT', KEYS[1], digits(record.ku))
  end
end

local function words(record)
  local flat = {}
  for place, name in ipairs(REST) do
    local value = record[name]
    flat[place] = type(value) == 'number' and digits(value) or value
  end
  return flat
end

local function write(record)
  local fixed = '1' .. record.s .. record.ct .. record.fp .. record.ow .. record.nc .. record.pr
  local packed = fixed .. table.concat(words(record), ',')
  redis.call('HSET', KEYS[1], 'r', packed .. sum(packed))
end

-- Writes a record in place of another, or of itself: a client that waits for replicas waits for its
-- own last write, so an answer that is given again has to be a write too.
local function rewrite(record)
  expire(record)
  write(record)
end

-- The record as time has left it, and where it stands.
local function present()
  local record = written()
  if not record then return record, nil end
  local state = record.s
  if state == 'F' and (now >= record.lu or record.lu - now > LEASE_MAX) then
    state = 'U'
  elseif state == 'C' and now >= record.bu then
    state = 'T'
  end
  if state ~= 'F' and now >= record.ku then
    redis.call('DEL', KEYS[1])
    return nil, nil
  end
  if state == 'T' and record.s == 'C' then
    record.s = 'T'
    redis.call('HDEL', KEYS[1], 'an')
    write(record)
  end
  return record, state
end

-- What a request is told of a record; nothing when it may be sent.
local function found(record, state, asked)
  if string.sub(record.fp, 1, 1) ~= string.sub(asked, 1, 1) then return { stamp, 'unreadable' } end
  local first = digits(record.fs)
  if record.fp ~= asked then return { stamp, 'mismatch', state, first } end
  if state == 'R' then return nil end
  if state == 'F' then
    return { stamp, 'in_flight', digits(math.max(record.lu - now, 1)), first }
  end
  if state == 'U' then return { stamp, 'unknown', record.db, record.os, first } end
  local answer = state == 'C' and redis.call('HGET', KEYS[1], 'an')
  if not answer then return { stamp, 'gone', record.st, first } end
  return { stamp, 'completed', record.fe, digits(record.dn), first, answer }
end

-- A record of a claim that begins now.
local function at_work(by, lease, unknown)
  local lease_until = now + math.min(lease, LEASE_MAX)
  return {
    s = 'F', fp = by.fp, ow = by.ow, nc = by.nc, pr = by.pr, fe = by.fe,
    lu = lease_until, fs = now, dn = 0, at = 1, os = '', db = '', bu = math.huge,
    ku = lease_until + unknown, ct = '0', st = '',
  }
end

