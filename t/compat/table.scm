;; A table that is filled, overwritten and added up; garbage for the collector.
(define table (make-hash-table))
(do ((round 0 (+ round 1))) ((= round 60))
  (do ((i 0 (+ i 1))) ((= i 20000))
    (hash-set! table (modulo (+ (* round 7919) i) 50000)
               (list round i (make-string (modulo i 50) #\x))))
  (let ((sum (hash-fold (lambda (key value sum) (+ (car value) (cadr value) sum)) 0 table)))
    (display round) (display " ") (display sum) (newline) (force-output)))
