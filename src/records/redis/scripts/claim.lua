-- ARGV: fingerprint, owner, nonce, principal, lease, unknown, grace ('' = never take over),
--       too_old, over_quota
local fp, nonce, grace = ARGV[1], ARGV[3], number(ARGV[7])
local record, state = present()

local function acquire()
  local before = record or { fe = '0', at = 0, fs = now, ct = '0' }
  local fence = digits(math.max(micros, number(before.fe) + 1))
  local by = { fp = fp, ow = ARGV[2], nc = nonce, pr = ARGV[4], fe = fence }
  local work = at_work(by, number(ARGV[5]), number(ARGV[6]))
  work.at, work.fs, work.ct = math.min(before.at + 1, 4294967295), before.fs, before.ct
  if record then
    rewrite(work)
    redis.call('HDEL', KEYS[1], 'an')
  else
    -- Here a full server refuses.
    write(work)
    expire(work)
  end
  return { stamp, 'acquired', fence, digits(work.at), digits(work.fs) }
end

if record == false then return { stamp, 'unreadable' } end
if not record then
  if ARGV[8] == '1' then return { stamp, 'too_old' } end
  if ARGV[9] == '1' then return { stamp, 'quota' } end
  return acquire()
end
local answer = found(record, state, fp)
if not answer then return acquire() end
if answer[2] == 'in_flight' and record.nc == nonce then
  rewrite(record)
  return { stamp, 'acquired', record.fe, digits(record.at), digits(record.fs) }
end
if answer[2] == 'unknown' and grace then
  -- A lease in a future beyond all leases was written before the clock went back.
  if record.lu - now > LEASE_MAX or now >= record.lu + grace then return acquire() end
end
return answer
