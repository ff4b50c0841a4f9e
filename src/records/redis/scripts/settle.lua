-- ARGV: what, fingerprint, owner, nonce, principal, fence, then
--   renew: lease                       complete: status, answer, body, key, unknown
--   doubt: doubt, status, unknown      retryable: unknown
--   reassert: lease, first_seen, attempts, unknown
--   resolve: status ('' = not executed), body, key       purge: nothing
-- For resolve and purge the fence is that of the record which was looked at.
local what, fp, nonce, fence = ARGV[1], ARGV[2], ARGV[4], ARGV[6]
local by = { fp = fp, ow = ARGV[3], nc = nonce, pr = ARGV[5], fe = fence }
local record, state = present()

local function done() return { stamp, 'done' } end
local function fenced()
  return { stamp, 'fenced', record and record.fe or '' }
end
local function already()
  if record then rewrite(record) end
  return { stamp, 'already' }
end
local function remove()
  redis.call('DEL', KEYS[1])
  return done()
end

local function complete(into, status, answer, body, key)
  into.s, into.dn, into.lu, into.db, into.os, into.st = 'C', now, now, '', '', status
  into.bu, into.ku = now + body, now + math.max(key, body)
  -- What is not there yet gets room as well: DEL changes nothing, and is a write.
  if not record then redis.call('DEL', KEYS[1]) end
  expire(into)
  write(into)
  if answer == '' then
    redis.call('HDEL', KEYS[1], 'an')
  else
    redis.call('HSET', KEYS[1], 'an', answer)
  end
  if not record then expire(into) end
end

local function doubt(into)
  into.s, into.db, into.os = 'U', ARGV[7], ARGV[8]
  into.lu, into.ku = math.min(into.lu, now), now + number(ARGV[9])
  if not record then redis.call('DEL', KEYS[1]) end
  expire(into)
  write(into)
  if not record then expire(into) end
end

local function lost()
  if what == 'release' then return { stamp, 'already' } end
  if what == 'complete' then
    local fresh = at_work(by, 0, number(ARGV[11]))
    complete(fresh, ARGV[7], ARGV[8], number(ARGV[9]), number(ARGV[10]))
  elseif what == 'doubt' then
    doubt(at_work(by, 0, number(ARGV[9])))
  elseif what == 'reassert' then
    local back = at_work(by, number(ARGV[7]), number(ARGV[10]))
    back.fs, back.at = number(ARGV[8]), number(ARGV[9])
    redis.call('DEL', KEYS[1])
    write(back)
    expire(back)
  else
    return fenced()
  end
  return { stamp, 'reasserted' }
end

local function contest()
  local newer = number(record.fe) > number(fence)
  if what == 'reassert' and newer and record.ct == '0' then
    record.ct = '1'
    rewrite(record)
  end
  return fenced()
end

local function renew(lease)
  local kept = record.ku - record.lu
  record.lu = math.max(record.lu, now + math.min(lease, LEASE_MAX))
  record.ku = record.lu + kept
  rewrite(record)
  return done()
end

local function held()
  -- Its owner knows what it knows also when its lease has just run out.
  local working = record.s == 'F'
  if (what == 'renew' or what == 'reassert') and state == 'F' then return renew(number(ARGV[7])) end
  if what == 'complete' then
    if state == 'R' then return fenced() end
    if state == 'C' or state == 'T' then return already() end
    complete(record, ARGV[7], ARGV[8], number(ARGV[9]), number(ARGV[10]))
    return done()
  end
  if what == 'release' and working then return remove() end
  if what == 'doubt' then
    if working then
      doubt(record)
      return done()
    end
    if record.s == 'U' then return already() end
  end
  if what == 'retryable' then
    if working then
      record.s, record.lu, record.ku = 'R', now, now + number(ARGV[7])
      rewrite(record)
      return done()
    end
    if state == 'R' then return already() end
  end
  return fenced()
end

local function resolve()
  local status = ARGV[7]
  if not record then return status == '' and already() or fenced() end
  if record.fe ~= fence then return fenced() end
  if state == 'U' then
    if status == '' then return remove() end
    complete(record, status, '', number(ARGV[8]), number(ARGV[9]))
    return done()
  end
  local same = status ~= '' and record.st == status
  if same and state == 'T' then return already() end
  if same and state == 'C' and redis.call('HEXISTS', KEYS[1], 'an') == 0 then return already() end
  return fenced()
end

if record == false then
  record = nil
  if what == 'purge' and fence == '' then return remove() end
  return fenced()
end
if what == 'resolve' then return resolve() end
if what == 'purge' then
  if not record then return already() end
  if state == 'F' or record.fe ~= fence then return fenced() end
  return remove()
end
if not record then return lost() end
if record.nc ~= nonce or record.fe ~= fence or record.fp ~= fp then return contest() end
return held()
