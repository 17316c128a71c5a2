set -e
[ "$(curl -sS --max-time 20 --retry 20 --retry-connrefused --retry-delay 1 http://web:8080/one)" = "you asked for /one" ]
for n in 1 2 3 4; do
  curl -sS --max-time 20 "http://web:8080/[1-50]" > /tmp/$n &
done
wait
[ "$(cat /tmp/1 /tmp/2 /tmp/3 /tmp/4 | grep -c 'you asked for')" = 200 ]
if curl -sS --max-time 5 http://other:80/; then exit 1; fi
echo all done
sleep 3600
