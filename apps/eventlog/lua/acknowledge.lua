-- ARGV: now, n, ids... Unknown ids are ignored.
local k = base .. ARGV[2] .. ':'
for i = 3, #ARGV do
  local p = look(k, ARGV[i])
  if p then delete(k, p, ARGV[i]) end
end
return 1
