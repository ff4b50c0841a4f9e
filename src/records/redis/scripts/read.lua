-- No ARGV. The whole record, field by field.
local record, state = present()
if record == false then return { stamp, 'unreadable' } end
if not record then return { stamp, 'none' } end
local reply = { stamp, 'record', state, record.s, record.ct, record.fp, record.ow, record.nc,
  record.pr }
for _, word in ipairs(words(record)) do reply[#reply + 1] = word end
reply[#reply + 1] = redis.call('HGET', KEYS[1], 'an') or ''
return reply
