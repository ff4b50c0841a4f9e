-- What every script begins with: the server's time, the record as it stands now, and how it is
-- written. KEYS[1] is the record, a hash:
--   v version   s state   fp fingerprint   ow owner   nc nonce   pr principal   fe fence
--   lu lease_until   fs first_seen   dn completed   at attempts   os observed status
--   db doubt   bu body_until   ku keep_until   ct contested   st status   an answer
-- Times are milliseconds in decimal digits, and what never comes is the largest 64-bit number.
-- Numbers in Lua are doubles: exact up to 2^53, which microseconds reach in the year 2255.
local NEVER, EXACT, LEASE_MAX = '18446744073709551615', 9007199254740992, 600000
local FIELDS = { 'v', 's', 'fp', 'ow', 'nc', 'pr', 'fe', 'lu', 'fs', 'dn', 'at', 'os', 'db', 'bu',
  'ku', 'ct', 'st' }
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

-- The record as it is written; nothing when there is none, false when it cannot be read.
local function written()
  local kind = redis.call('TYPE', KEYS[1]).ok
  if kind == 'none' then return nil end
  if kind ~= 'hash' then return false end
  local values = redis.call('HMGET', KEYS[1], unpack(FIELDS))
  local record = {}
  for place, name in ipairs(FIELDS) do
    if not values[place] then return false end
    record[name] = values[place]
  end
  for _, name in ipairs(NUMBERS) do
    record[name] = number(record[name])
    if not record[name] then return false end
  end
  local sound = record.v == '1' and #record.fp == 33 and number(record.fe)
    and string.find(record.s, '^[FCRUT]$') and string.find(record.ct, '^[01]$')
    and string.find(record.os, '^%d*$') and string.find(record.db, '^%d*$')
    and string.find(record.st, '^%d*$')
  if not sound then return false end
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

local function write(record)
  local flat = {}
  for _, name in ipairs(FIELDS) do
    local value = record[name]
    if type(value) == 'number' then value = digits(value) end
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  redis.call('HSET', KEYS[1], unpack(flat))
end

-- Writes a record in place of another.
local function rewrite(record)
  expire(record)
  write(record)
end

-- Writes nothing new, but writes: a client that waits for replicas waits for its own last write.
local function touch(record)
  expire(record)
  redis.call('HSET', KEYS[1], 'v', record.v)
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
    redis.call('HSET', KEYS[1], 's', 'T')
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
    v = '1', s = 'F', fp = by.fp, ow = by.ow, nc = by.nc, pr = by.pr, fe = by.fe,
    lu = lease_until, fs = now, dn = 0, at = 1, os = '', db = '', bu = math.huge,
    ku = lease_until + unknown, ct = '0', st = '',
  }
end

