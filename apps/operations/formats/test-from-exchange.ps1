# Tests the way from this Exchange server to ENS. It changes nothing.
# Run it on each Exchange server with the Mailbox role, in Windows PowerShell.
$ErrorActionPreference = 'Stop'
$url = '@URL@'
$server = '@HOST@'
$port = [int]'@PORT@'
$failed = 0
function Say($name, $good, $text) {
    $script:failed += [int](-not $good)
    $mark = if ($good) { 'ok    ' } else { 'FAILED' }
    Write-Host ('{0}  {1}: {2}' -f $mark, $name, $text)
}
[Net.ServicePointManager]::SecurityProtocol = [Net.SecurityProtocolType]::Tls12

try {
    $found = [Net.Dns]::GetHostAddresses($server) | ForEach-Object { $_.IPAddressToString }
    Say 'DNS' $true ($found -join ', ')
} catch { Say 'DNS' $false 'the name is not found: add it to the DNS that Exchange uses' }

Write-Host '        proxy of this server (Exchange may have another, see below):'
netsh winhttp show proxy | Where-Object { $_.Trim() } | ForEach-Object { Write-Host "        $_" }
if (Get-Command Get-ExchangeServer -ErrorAction SilentlyContinue) {
    $proxy = (Get-ExchangeServer $env:COMPUTERNAME).InternetWebProxy
    Write-Host "        InternetWebProxy of Exchange: $(if ($proxy) { $proxy } else { 'none' })"
}

try {
    $client = New-Object Net.Sockets.TcpClient
    if (-not $client.ConnectAsync($server, $port).Wait(8000)) { throw 'no answer in 8 seconds' }
    Say 'connection' $true "port $port"
    $script:why = 'None'
    $callback = { param($s, $c, $chain, $errors) $script:why = "$errors"; $true }
    $stream = New-Object Net.Security.SslStream($client.GetStream(), $false, $callback)
    $stream.AuthenticateAsClient($server, $null, [Security.Authentication.SslProtocols]::Tls12, $false)
    $shown = New-Object Security.Cryptography.X509Certificates.X509Certificate2($stream.RemoteCertificate)
    Write-Host "        certificate: $($shown.Subject), issued by $($shown.Issuer), until $($shown.NotAfter)"
    $advice = @{
        'None' = 'trusted'
        'RemoteCertificateChainErrors' = 'not trusted: import the root CA of ENS into LocalMachine\Root'
        'RemoteCertificateNameMismatch' = 'it is for another name'
    }
    Say 'certificate' ($why -eq 'None') $(if ($advice[$why]) { $advice[$why] } else { $why })
    $client.Close()
} catch { Say 'connection' $false $_.Exception.Message }

try {
    $answer = Invoke-WebRequest -Uri "$url/alive" -UseBasicParsing -TimeoutSec 15
    Say 'alive' ($answer.Content -match '"status"\s*:\s*"ok"') "HTTP $($answer.StatusCode)"
} catch { Say 'alive' $false $_.Exception.Message }

try {
    Invoke-WebRequest -Uri "$url/notify?id=x&creds=$('x' * 1900)" -Method Post -Body '<x/>' `
        -ContentType 'text/xml' -UseBasicParsing -TimeoutSec 15 | Out-Null
    Say 'webhook' $false 'something else than ENS answers'
} catch {
    $status = [int]$_.Exception.Response.StatusCode
    Say 'webhook' ($status -eq 404) $(if ($status -eq 404) { 'reached' } else { $_.Exception.Message })
}
if ($failed) { Write-Host "$failed of the steps failed." } else { Write-Host 'All is well.' }
exit $failed
