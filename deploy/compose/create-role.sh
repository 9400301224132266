#!/bin/sh
# Creates the database and its owner, the role of Countersign, which is no superuser.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$COUNTERSIGN_POSTGRES_PASSWORD" --username "$POSTGRES_USER" <<'SQL'
create role countersign login nosuperuser nocreatedb nocreaterole password :'password';
create database countersign owner countersign;
SQL
