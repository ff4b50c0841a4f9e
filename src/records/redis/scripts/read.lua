-- No ARGV. The whole record, field by field.
local record, state = present()
if record == false then return { stamp, 'unreadable' } end
if not record then return { stamp, 'none' } end
local reply = { stamp, 'record', state }
for _, name in ipairs(FIELDS) do
  local value = record[name]
  if type(value) == 'number' then value = digits(value) end
  reply[#reply + 1] = value
end
reply[#reply + 1] = redis.call('HGET', KEYS[1], 'an') or ''
return reply
