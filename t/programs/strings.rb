# Strings, hashes, arrays, fibers and bignums; a digest is printed and appended.
require 'digest'

rounds = (ARGV[0] || 110).to_i
random = Random.new(7)
$stdout.sync = true
log = File.open('rounds.log', 'a')
log.sync = true

words = Array.new(60_000) { |i| "word #{i} " + random.bytes(12).unpack1('H*') }
index = Hash.new { |h, k| h[k] = [] }
product = 1
fiber = Fiber.new { |x| loop { x = Fiber.yield(x * 3 + 1) } }
digest = Digest::SHA256.new

rounds.times do |round|
  12_000.times do
    word = words[random.rand(words.size)]
    index[word[-3..]] << word
    index.delete(words[random.rand(words.size)][-3..]) if index.size > 3000
    words[random.rand(words.size)] = word.reverse + fiber.resume(word.size).to_s
    words[random.rand(words.size)] = "word #{random.rand(1_000_000)}"
  end
  product = product * (random.rand(1 << 64) | 1) % (1 << 4096)
  digest << words.each_slice(97).map(&:first).join << index.size.to_s << product.to_s(36)
  log.puts "#{round} #{digest.hexdigest}"
  puts "#{round} #{index.size} #{digest.hexdigest}"
end
