#!/bin/sh
# Postfix as a smarthost that takes mail only over STARTTLS and with a login, and hands it on to $NEXT_HOP.
# Needs root; certificate and key in /tls, username and password in /login.
set -eu

postconf -e \
    "myhostname = smarthost.example.net" "mydestination =" "inet_interfaces = all" \
    "inet_protocols = ipv4" "mynetworks =" "maillog_file = /dev/stdout" \
    "default_transport = smtp:[${NEXT_HOP%:*}]:${NEXT_HOP#*:}" "smtp_dns_support_level = disabled" \
    "smtp_host_lookup = native" "smtp_tls_security_level = none" "disable_dns_lookups = yes" \
    "smtpd_tls_security_level = encrypt" "smtpd_tls_auth_only = yes" \
    "smtpd_tls_cert_file = /tls/tls.crt" "smtpd_tls_key_file = /tls/tls.key" \
    "smtpd_sasl_auth_enable = yes" "smtpd_sasl_local_domain = smarthost" "cyrus_sasl_config_path = /etc/postfix/sasl" \
    "smtpd_relay_restrictions = permit_sasl_authenticated, reject" \
    "smtpd_recipient_restrictions = permit_sasl_authenticated, reject"
postconf -F '*/*/chroot = n'
postconf -M 2525/inet="2525 inet n - n - - smtpd"
mkdir -p /etc/postfix/sasl
printf 'pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n' >/etc/postfix/sasl/smtpd.conf
saslpasswd2 -p -c -u smarthost "$(cat /login/username)" </login/password
chown postfix /etc/sasldb2
exec postfix start-fg
