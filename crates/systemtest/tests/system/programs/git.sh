set -e
cd /tmp
export GIT_EXEC_PATH=/usr/bin GIT_CONFIG_NOSYSTEM=1
git config --global user.email a@b.example
git config --global user.name agent
git init -q -b main one
cd one
for n in 1 2 3 4 5; do echo $n > file-$n; git add file-$n; git commit -q -m "commit $n"; done
git gc -q
git fsck --strict
cd ..
git clone -q file:///tmp/one two
cd two
[ "$(git log --oneline | wc -l)" = 5 ]
git checkout -q -b side
echo side > side
git add side
git commit -q -m side
git push -q origin side
[ "$(git -C /tmp/one rev-parse side)" = "$(git rev-parse side)" ]
echo all done
sleep 3600
