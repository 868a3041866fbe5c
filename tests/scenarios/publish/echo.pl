# Answer each TCP connection and UDP packet on port 7000 with "protocol address-of-the-client: what it said".
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

my $tcp = IO::Socket::INET->new(Proto => 'tcp', LocalPort => 7000, Listen => 64, ReuseAddr => 1) or die $!;
my $udp = IO::Socket::INET->new(Proto => 'udp', LocalPort => 7000) or die $!;
my $both = IO::Select->new($tcp, $udp);
while (my @ready = $both->can_read) {
    for my $socket (@ready) {
        if ($socket == $tcp) {
            my $client = $tcp->accept or next;
            my $line = <$client> // '';
            print $client "tcp " . $client->peerhost . ": $line";
            close $client;
        } else {
            $udp->recv(my $line, 2048) // next;
            $udp->send("udp " . $udp->peerhost . ": $line");
        }
    }
}
