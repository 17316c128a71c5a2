set -e
cd /tmp
[ "$(sqlite3 a.db 'PRAGMA journal_mode=WAL; CREATE TABLE t (x INTEGER);')" = wal ]
( i=0; while [ $i -lt 50 ]; do sqlite3 a.db ".timeout 20000" "INSERT INTO t VALUES ($i);"; i=$((i+1)); done ) &
i=0; while [ $i -lt 50 ]; do sqlite3 a.db ".timeout 20000" "INSERT INTO t VALUES ($i);"; i=$((i+1)); done
wait
[ "$(sqlite3 a.db 'SELECT count(*) FROM t')" = 100 ]
[ "$(sqlite3 a.db 'PRAGMA integrity_check')" = ok ]
sqlite3 a.db 'VACUUM'
echo all done
sleep 3600
