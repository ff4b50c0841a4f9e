-- ARGV: fingerprint
local record, state = present()
if record == false then return { stamp, 'unreadable' } end
return record and found(record, state, ARGV[1]) or { stamp, 'none' }
